/* The first program of a confidential virtual machine: see init.c. */
#ifndef KLUIS_INIT_H
#define KLUIS_INIT_H

#define ROOT "/new"
#define LINE_BYTES 4096

/* Print what failed and why on the console, and power off: a guest that is not as measured does not run. */
void fail(const char *what) __attribute__((noreturn));

/* Load the modules that FOLDER/list names: the ones that are always wanted, and those for devices that exist.
 * Call again after devices were found: each module is loaded once. */
void load_modules(const char *folder);

/* Find the disk whose erofs volume is named "kluis", set dm-verity up on it and mount it on ROOT.
 * ROOT_HASH is 64 hex digits; BLOCKS the number of data blocks of 4096 bytes, after which the tree starts. */
void mount_root(const char *root_hash, unsigned long long blocks, const char *modules);
#endif
