/* The files of scratch: names, sizes and their blocks. All of it is in secret memory, and limited in names
 * and bytes. */
#define _GNU_SOURCE
#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_NODES 65536
#define BUCKETS 4096
#define MOST_NAME 255

static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;
static struct node **buckets, *top;
static unsigned nodes;
static ino_t last_id;

static void touch(struct node *node) { clock_gettime(CLOCK_REALTIME, &node->written); }

/* ---- names --------------------------------------------------------------------------------- */

static struct node **bucket(const struct node *parent, const char *name, size_t n) {
    uint64_t h = 1469598103934665603ULL ^ parent->id;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)name[i]) * 1099511628211ULL;
    return &buckets[(h ^ h >> 32) % BUCKETS];
}

static struct node *child(const struct node *parent, const char *name, size_t n) {
    struct node *at = *bucket(parent, name, n);
    while (at && !(at->parent == parent && !strncmp(at->name, name, n) && !at->name[n])) at = at->next;
    return at;
}

static struct node *make(mode_t mode) {
    if (nodes >= MOST_NODES) return NULL;
    struct node *node = calloc(1, sizeof *node);
    if (!node) return NULL;
    nodes++;
    node->id = ++last_id;
    node->mode = mode;
    touch(node);
    node->read = node->written;
    pthread_rwlock_init(&node->lock, NULL);
    return node;
}

/* The node owns the name from here on. */
static void attach(struct node *node, struct node *parent, char *name) {
    struct node **slot = bucket(parent, name, strlen(name));
    node->name = name;
    node->parent = parent;
    node->sibling = parent->children;
    parent->children = node;
    node->next = *slot;
    *slot = node;
    touch(parent);
}

static void detach(struct node *node) {
    struct node **slot = bucket(node->parent, node->name, strlen(node->name));
    while (*slot != node) slot = &(*slot)->next;
    *slot = node->next;
    slot = &node->parent->children;
    while (*slot != node) slot = &(*slot)->sibling;
    *slot = node->sibling;
    touch(node->parent);
    free(node->name);
    node->name = NULL;
    node->parent = NULL;
}

static void bury(struct node *node) {
    if (node->users || node->name || node == top) return;
    bytes_free(node, 0);
    for (size_t i = 0; i < node->leaf_count; i++) free(node->leaves[i]);
    free(node->leaves);
    pthread_rwlock_destroy(&node->lock);
    free(node);
    nodes--;
}

/* The directory of a path's last component, and that component. */
static int walk(const char *path, struct node **parent, const char **last) {
    struct node *at = top;
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t n = slash ? (size_t)(slash - path) : strlen(path);
        if (n > MOST_NAME) return -ENAMETOOLONG;
        if (!slash) break;
        if (!(at = child(at, path, n))) return -ENOENT;
        if (!S_ISDIR(at->mode)) return -ENOTDIR;
        path = slash + 1;
    }
    *parent = at;
    *last = path;
    return 0;
}

static int find(const char *path, struct node **node) {
    struct node *parent;
    const char *last;
    if (!*path) { *node = top; return 0; }
    int error = walk(path, &parent, &last);
    if (error) return error;
    *node = child(parent, last, strlen(last));
    return *node ? 0 : -ENOENT;
}

const char *files_start(void) {
    buckets = calloc(BUCKETS, sizeof *buckets);
    top = buckets ? make(S_IFDIR | 0700) : NULL;
    return top ? NULL : "scratch: the heap does not hold its names";
}

/* A new node for a path that does not exist yet. */
static int add(const char *path, mode_t mode, struct node **node) {
    struct node *parent;
    const char *last;
    int error = walk(path, &parent, &last);
    if (error) return error;
    char *name = strdup(last);
    if (!name || !(*node = make(mode))) {
        free(name);
        return -ENOSPC;
    }
    attach(*node, parent, name);
    return 0;
}

static int open_named(const char *path, int flags, mode_t mode, struct node **node) {
    int error = find(path, node);
    if (!error && (flags & O_CREAT) && (flags & O_EXCL)) return -EEXIST;
    if (error != -ENOENT || !(flags & O_CREAT)) return error;
    return add(path, S_IFREG | (mode & 07777), node);
}

int files_open(const char *path, int flags, mode_t mode, struct node **node) {
    int nameless = (flags & O_TMPFILE) == O_TMPFILE, writes = (flags & O_ACCMODE) != O_RDONLY;
    pthread_mutex_lock(&names);
    int error = nameless ? find(path, node) : open_named(path, flags, mode, node);
    if (!error && nameless) {
        if (!S_ISDIR((*node)->mode)) error = -ENOTDIR;
        else if (!(*node = make(S_IFREG | (mode & 07777)))) error = -ENOSPC;
    } else if (!error && S_ISDIR((*node)->mode) && (writes || (flags & O_CREAT))) {
        error = -EISDIR;
    } else if (!error && !S_ISDIR((*node)->mode) && (flags & O_DIRECTORY)) {
        error = -ENOTDIR;
    }
    if (!error) (*node)->users++;
    pthread_mutex_unlock(&names);
    if (!error && (flags & O_TRUNC) && writes) bytes_resize(*node, 0);
    return error;
}

void files_drop(struct node *node) {
    pthread_mutex_lock(&names);
    node->users--;
    bury(node);
    pthread_mutex_unlock(&names);
}

int files_directory(const char *path, mode_t mode) {
    struct node *node;
    pthread_mutex_lock(&names);
    int error = find(path, &node);
    if (!error) error = -EEXIST;
    else if (error == -ENOENT) error = add(path, S_IFDIR | (mode & 07777), &node);
    pthread_mutex_unlock(&names);
    return error;
}

/* Whether this may be removed, as a directory or as a file. */
static int removable(const struct node *node, int directory) {
    if (node == top) return -EBUSY;
    if (directory) return !S_ISDIR(node->mode) ? -ENOTDIR : node->children ? -ENOTEMPTY : 0;
    return S_ISDIR(node->mode) ? -EISDIR : 0;
}

int files_remove(const char *path, int directory) {
    struct node *node;
    pthread_mutex_lock(&names);
    int error = find(path, &node);
    if (!error && !(error = removable(node, directory))) {
        detach(node);
        bury(node);
    }
    pthread_mutex_unlock(&names);
    return error;
}

static int moved(const char *from, const char *to, int keep) {
    struct node *node, *target = NULL, *parent;
    const char *last;
    int error = find(from, &node);
    if (error) return error;
    if (node == top) return -EBUSY;
    error = find(to, &target);
    if (error && error != -ENOENT) return error;
    if (!error && keep) return -EEXIST;
    if (!error && target == node) return 0;
    if (!error && (error = removable(target, S_ISDIR(node->mode)))) return error;
    if ((error = walk(to, &parent, &last))) return error;
    for (struct node *at = parent; at; at = at->parent) if (at == node) return -EINVAL;
    char *name = strdup(last);
    if (!name) return -ENOSPC;
    if (target) { detach(target); bury(target); }
    detach(node);
    attach(node, parent, name);
    return 0;
}

int files_rename(const char *from, const char *to, int keep) {
    pthread_mutex_lock(&names);
    int error = moved(from, to, keep);
    pthread_mutex_unlock(&names);
    return error;
}

int files_path(struct node *node, char *to, size_t size) {
    const struct node *way[2048];
    size_t n = 0, at = 0;
    pthread_mutex_lock(&names);
    int error = node->name || node == top ? 0 : -ENOENT;
    for (; !error && node != top; node = node->parent) {
        if (n == sizeof way / sizeof *way) error = -ENAMETOOLONG;
        else way[n++] = node;
    }
    to[0] = 0;
    while (!error && n--) {
        size_t k = strlen(way[n]->name);
        if (at + k + 2 > size) { error = -ENAMETOOLONG; break; }
        if (at) to[at++] = '/';
        memcpy(to + at, way[n]->name, k + 1);
        at += k;
    }
    pthread_mutex_unlock(&names);
    return error;
}

ssize_t files_list(struct node *directory, struct entry **list) {
    pthread_mutex_lock(&names);
    size_t n = 2;
    for (struct node *at = directory->children; at; at = at->sibling) n++;
    struct entry *to = *list = calloc(n, sizeof **list);
    if (to) {
        struct node *above = directory->parent ? directory->parent : directory;
        to[0] = (struct entry){directory->id, 1, "."};
        to[1] = (struct entry){above->id, 1, ".."};
        to += 2;
        for (struct node *at = directory->children; at; at = at->sibling, to++) {
            to->id = at->id;
            to->is_directory = S_ISDIR(at->mode);
            strcpy(to->name, at->name);
        }
    }
    pthread_mutex_unlock(&names);
    return *list ? (ssize_t)n : -ENOMEM;
}
