/* Load kernel modules: a list, in which each line is a pattern and the files to load, dependencies first.
 *
 *   *                        dm-bufio.ko dm-mod.ko dm-verity.ko      always
 *   virtio:d00000002v*       virtio_blk.ko                           if a device has a name that matches
 *
 * The names are those that the kernel states for its devices (modalias). There is no modprobe in the guest.
 */
#define _GNU_SOURCE
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAMES_BYTES (1 << 18)
#define DEPTH 16

/* Names of the devices, each ended by NUL. Those beyond the buffer are not served. */
static char names[NAMES_BYTES];
static size_t used;

static void add_name(int folder) {
    int file = openat(folder, "modalias", O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    char line[LINE_BYTES];
    ssize_t n = read(file, line, sizeof line - 1);
    close(file);
    if (n <= 0 || used + (size_t)n + 1 > sizeof names) return;
    line[n] = 0;
    line[strcspn(line, "\n")] = 0;
    size_t size = strlen(line) + 1;
    memcpy(names + used, line, size);
    used += size;
}

static void find_names(int parent, const char *name, int depth) {
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) return;
    add_name(folder);
    DIR *entries = depth < DEPTH ? fdopendir(folder) : NULL;
    if (!entries) {
        close(folder);
        return;
    }
    for (struct dirent *each; (each = readdir(entries));)
        if (each->d_type == DT_DIR && each->d_name[0] != '.') find_names(folder, each->d_name, depth + 1);
    closedir(entries);
}

static int wanted(const char *pattern) {
    if (!strcmp(pattern, "*")) return 1;
    for (const char *name = names; name < names + used; name += strlen(name) + 1)
        if (!fnmatch(pattern, name, 0)) return 1;
    return 0;
}

/* Load a file and remove it, if it can be removed: nothing loads it twice, and its memory is free. */
static void load(const char *folder, const char *name) {
    char path[LINE_BYTES];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    /* A driver for a device that is not there refuses to load, and one may be loaded already. */
    syscall(SYS_finit_module, file, "", 0);
    close(file);
    unlink(path);
}

void load_modules(const char *folder) {
    char path[LINE_BYTES], line[LINE_BYTES];
    snprintf(path, sizeof path, "%s/list", folder);
    FILE *list = fopen(path, "re");
    if (!list) fail(path);
    used = 0;
    int devices = open("/sys/devices", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (devices >= 0) {
        find_names(devices, ".", 0);
        close(devices);
    }
    while (fgets(line, sizeof line, list)) {
        char *rest = NULL, *pattern = strtok_r(line, " \n", &rest);
        if (!pattern || !wanted(pattern)) continue;
        for (char *name; (name = strtok_r(NULL, " \n", &rest));) load(folder, name);
    }
    fclose(list);
}
