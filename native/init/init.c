/* The first program of a confidential virtual machine, and its only one that is not Kluis.
 *
 * It mounts the kernel's file systems, loads modules, sets the measured root file system up (disk.c), makes it
 * the root, starts Kluis's platform and agent in one process, reaps what ends, and powers off when that process
 * ends. There is no shell, no login and no other service. The root hash is on the command line, which is
 * measured: kluis.root=HASH:BLOCKS.
 */
#define _GNU_SOURCE
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPTION "kluis.root="
#define HASH_DIGITS 64
#define EARLY "/modules"
#define LATE "/usr/lib/kluis/modules"
#define PYTHON "/k/guest/bin/python"
#define DESCRIPTORS 65536
#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static void power_off(void) {
    sync();
    reboot(RB_POWER_OFF);
    for (;;) pause();
}

void fail(const char *what) {
    dprintf(2, "kluis-init: %s: %s\n", what, strerror(errno));
    power_off();
    abort();
}

static void mount_on(const char *kind, const char *place, unsigned long flags, const char *options) {
    if (mkdir(place, 0755) && errno != EEXIST && errno != EROFS) fail(place);
    if (mount(kind, place, kind, flags, options)) fail(place);
}

static void open_console(void) {
    int console = open("/dev/console", O_RDWR);
    if (console < 0) return;
    for (int number = 0; number < 3; number++) dup2(console, number);
    if (console > 2) close(console);
}

/* The root hash and the number of blocks from the command line, which contains them exactly once. */
static unsigned long long read_command_line(char hash[HASH_DIGITS + 1]) {
    char line[LINE_BYTES];
    int file = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, line, sizeof line - 1);
    if (n < 0) fail("/proc/cmdline");
    close(file);
    line[n] = 0;
    char *found = NULL, *rest = NULL, *end = NULL;
    for (char *word = strtok_r(line, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest)) {
        if (strncmp(word, OPTION, sizeof OPTION - 1)) continue;
        errno = EINVAL;
        if (found) fail("command line: " OPTION " is there twice");
        found = word + sizeof OPTION - 1;
    }
    errno = EINVAL;
    if (!found || strspn(found, "0123456789abcdef") != HASH_DIGITS || found[HASH_DIGITS] != ':')
        fail("command line: want " OPTION "HASH:BLOCKS");
    memcpy(hash, found, HASH_DIGITS);
    hash[HASH_DIGITS] = 0;
    unsigned long long blocks = strtoull(found + HASH_DIGITS + 1, &end, 10);
    if (*end || !blocks || blocks > 1ULL << 32) fail("command line: number of blocks");
    return blocks;
}

/* Make ROOT the root, as switch_root(8) does: bubblewrap cannot pivot away from an initial RAM disk. */
static void switch_root(void) {
    for (const char *const *each = (const char *const[]){"/dev", "/proc", "/sys", NULL}; *each; each++) {
        char place[64];
        snprintf(place, sizeof place, ROOT "%s", *each);
        if (mount(*each, place, NULL, MS_MOVE, NULL)) fail(place);
    }
    unlink("/init");
    if (chdir(ROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/")) fail("switch root");
}

static void mount_rest(void) {
    mount_on("tmpfs", "/dev/shm", SAFE, "mode=1777");
    mount_on("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
    mount_on("tmpfs", "/tmp", SAFE, "mode=1777");
    mount_on("tmpfs", "/var", SAFE, "mode=755");
    if (mkdir("/var/lib", 0755)) fail("/var/lib");
    /* What a kernel or a machine may not have; a driver that needs it reports that it is missing. */
    mount("securityfs", "/sys/kernel/security", "securityfs", SAFE, NULL);
    mount("configfs", "/sys/kernel/config", "configfs", SAFE, NULL);
    mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs", SAFE | MS_RDONLY, NULL);
}

static void write_setting(const char *path, const char *value) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, value, strlen(value)) < 0) fail(path);
    close(file);
}

static void set_limits(void) {
    struct rlimit locked = {RLIM_INFINITY, RLIM_INFINITY}, files = {DESCRIPTORS, DESCRIPTORS}, core = {0, 0};
    if (setrlimit(RLIMIT_MEMLOCK, &locked)) fail("RLIMIT_MEMLOCK");
    if (setrlimit(RLIMIT_NOFILE, &files)) fail("RLIMIT_NOFILE");
    if (setrlimit(RLIMIT_CORE, &core)) fail("RLIMIT_CORE");
}

static void raise_loopback(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (any < 0 || ioctl(any, SIOCSIFFLAGS, &request)) fail("loopback");
    close(any);
}

static pid_t start(void) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child) return child;
    static char *const line[] = {PYTHON, "-I", "-m", "kluis.tee.inside.boot", NULL};
    static char *const environment[] = {"PATH=/usr/bin", "LANG=C.UTF-8", "HOME=/", "TZ=UTC", NULL};
    setsid();
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, 0)) fail("/dev/null");
    execve(PYTHON, line, environment);
    fail(PYTHON);
}

/* Reap every process that ends; return when CHILD has. */
static int reap(pid_t child) {
    int status;
    for (pid_t ended; (ended = wait(&status)) != child;)
        if (ended < 0 && errno != EINTR) fail("wait");
    return status;
}

int main(void) {
    char hash[HASH_DIGITS + 1];
    if (getpid() != 1) {
        dprintf(2, "kluis-init: want to be process 1 of a guest, got %d\n", (int)getpid());
        return 2;
    }
    mount_on("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755");
    open_console();
    umask(022);
    mount_on("proc", "/proc", SAFE, NULL);
    mount_on("sysfs", "/sys", SAFE, NULL);
    /* The host holds the console, and could request registers and memory from the kernel by a serial break. */
    write_setting("/proc/sys/kernel/sysrq", "0");
    unsigned long long blocks = read_command_line(hash);
    load_modules(EARLY);
    mount_root(hash, blocks, EARLY);
    switch_root();
    load_modules(LATE);
    write_setting("/proc/sys/kernel/modules_disabled", "1");
    write_setting("/proc/sys/kernel/kexec_load_disabled", "1");
    mount_rest();
    set_limits();
    raise_loopback();
    int status = reap(start());
    dprintf(2, "kluis-init: the agent ended with %s %d\n", WIFSIGNALED(status) ? "signal" : "status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    power_off();
}
