/* The root file system: erofs, read-only, each block checked by dm-verity against the root hash.
 *
 * Everything that dm-verity believes is on the command line or here; the disk has no superblock of it. A block
 * that does not match ends the machine (panic_on_corruption).
 *
 * Spec: Linux, Documentation/admin-guide/device-mapper/verity.rst; include/uapi/linux/dm-ioctl.h; erofs_fs.h.
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define SECTOR 512
#define SUPERBLOCK 1024
#define VOLUME 64 /* offset of the name in the superblock */
#define EROFS_MAGIC "\xe2\xe1\xf5\xe0"
#define NAME "kluis"
#define WAIT_STEPS 3000
#define STEP_NANOSECONDS 10000000L
#define MODULES_EVERY 20

static int is_ours(const char *path) {
    unsigned char data[VOLUME + 16];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t n = pread(file, data, sizeof data, SUPERBLOCK);
    close(file);
    return n == sizeof data && !memcmp(data, EROFS_MAGIC, 4) && !memcmp(data + VOLUME, NAME, sizeof NAME);
}

/* The path of the disk or partition, in PATH; 0 if there is none yet. */
static int find_disk(char *path, size_t size) {
    DIR *all = opendir("/sys/class/block");
    int found = 0;
    if (!all) return 0;
    for (struct dirent *each; !found && (each = readdir(all));) {
        if (each->d_name[0] == '.' || !strncmp(each->d_name, "dm-", 3)) continue;
        snprintf(path, size, "/dev/%s", each->d_name);
        found = is_ours(path);
    }
    closedir(all);
    return found;
}

static void wait_for_disk(char *path, size_t size, const char *modules) {
    struct timespec step = {0, STEP_NANOSECONDS};
    for (int at = 0; !find_disk(path, size); at++) {
        if (at == WAIT_STEPS) {
            errno = ENODEV;
            fail("root file system: no disk has an erofs volume named " NAME);
        }
        nanosleep(&step, NULL);
        /* A bus driver has found new devices, whose drivers are modules too. */
        if (at % MODULES_EVERY == 0) load_modules(modules);
    }
}

static void order(int control, unsigned long code, struct dm_ioctl *request, size_t size, const char *what) {
    request->version[0] = DM_VERSION_MAJOR;
    request->data_size = size;
    request->data_start = sizeof *request;
    strcpy(request->name, "root");
    if (ioctl(control, code, request)) fail(what);
}

static void make_verity(const char *disk, const char *root_hash, unsigned long long blocks) {
    struct stat found;
    if (stat(disk, &found) || !S_ISBLK(found.st_mode)) fail(disk);
    struct {
        struct dm_ioctl head;
        struct dm_target_spec target;
        char parameters[512];
    } table;
    int control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (control < 0) fail("/dev/mapper/control");

    memset(&table, 0, sizeof table);
    order(control, DM_DEV_CREATE, &table.head, sizeof table, "dm-verity: create");

    memset(&table, 0, sizeof table);
    table.head.flags = DM_READONLY_FLAG;
    table.head.target_count = 1;
    table.target.length = blocks * (BLOCK / SECTOR);
    strcpy(table.target.target_type, "verity");
    int n = snprintf(table.parameters, sizeof table.parameters,
                     "1 %u:%u %u:%u %d %d %llu %llu sha256 %s - 1 panic_on_corruption", major(found.st_rdev),
                     minor(found.st_rdev), major(found.st_rdev), minor(found.st_rdev), BLOCK, BLOCK, blocks, blocks,
                     root_hash);
    if (n < 0 || (size_t)n >= sizeof table.parameters) fail("dm-verity: table too long");
    order(control, DM_TABLE_LOAD, &table.head, sizeof table, "dm-verity: load the table");

    memset(&table, 0, sizeof table);
    order(control, DM_DEV_SUSPEND, &table.head, sizeof table, "dm-verity: resume");
    close(control);
}

void mount_root(const char *root_hash, unsigned long long blocks, const char *modules) {
    char disk[LINE_BYTES];
    wait_for_disk(disk, sizeof disk, modules);
    make_verity(disk, root_hash, blocks);
    if (mkdir(ROOT, 0755) && errno != EEXIST) fail(ROOT);
    if (mount("/dev/dm-0", ROOT, "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, NULL))
        fail("mount the root file system");
}
