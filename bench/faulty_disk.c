/* A disk that fails on command, or that remembers only what was synchronised.
 *
 * Preloaded into a verifier, it stands between SQLite and the kernel for the files whose path
 * begins with FAULTY_DISK_FILES; everything else passes through. The first word of the file
 * FAULTY_DISK_CONTROL, shared by mapping, says what to do; the second counts what was failed.
 *
 * With FAULTY_DISK_SHADOW, a folder, each fsync copies what was written since the last one into a
 * file there: what a power cut would leave behind if nothing that was not synchronised survived.
 * A sync that fails forgets what it should have written, as Linux does: a later one will not bring
 * it back.
 *
 * Not modelled: writes through mappings (SQLite's wal-index is one; it is rebuilt), directories.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FAIL_SYNC = 1, FAIL_WRITE = 2, SKIP_SYNC = 4, PRETEND_SYNC = 8 };
enum { MAX_FILES = 16, MAX_PATH = 4096 };

struct range {
    off64_t start;
    size_t size;
};

struct file {
    char name[256];
    struct range *dirty;
    size_t count, room;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static volatile uint32_t *control;
static const char *prefix, *shadow;
static struct file files[MAX_FILES];

static int (*real_fsync)(int), (*real_fdatasync)(int), (*real_ftruncate64)(int, off64_t);
static int (*real_unlink)(const char *);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*real_write)(int, const void *, size_t);

static void set_up(void)
{
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate64 = dlsym(RTLD_NEXT, "ftruncate64");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_pwrite64 = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    const char *path = getenv("FAULTY_DISK_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    prefix = getenv("FAULTY_DISK_FILES");
    shadow = getenv("FAULTY_DISK_SHADOW");
    if (fd < 0 || !prefix) {
        static const char text[] = "faulty_disk: FAULTY_DISK_CONTROL or _FILES is missing\n";
        real_write(2, text, sizeof text - 1);
        _exit(99);
    }
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        _exit(99);
    control = map;
    close(fd);
}

/* The base name of one of the watched files, or NULL. */
static const char *watched(const char *path)
{
    if (strncmp(path, prefix, strlen(prefix)) != 0)
        return NULL;
    return strrchr(path, '/') + 1;
}

static const char *watched_fd(int fd, char *path)
{
    char link[32];
    pthread_once(&once, set_up);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, MAX_PATH - 1);
    if (size < 0)
        return NULL;
    path[size] = 0;
    return watched(path);
}

static struct file *entry(const char *name)
{
    for (int i = 0; i < MAX_FILES; i++) {
        if (!files[i].name[0])
            snprintf(files[i].name, sizeof files[i].name, "%s", name);
        if (strcmp(files[i].name, name) == 0)
            return &files[i];
    }
    abort();
}

static void note(const char *name, off64_t start, size_t size)
{
    if (!shadow)
        return;
    struct file *file = entry(name);
    struct range *last = file->count ? &file->dirty[file->count - 1] : NULL;
    if (last && last->start + (off64_t)last->size == start) {
        last->size += size;
        return;
    }
    if (file->count == file->room) {
        file->room = file->room ? 2 * file->room : 64;
        file->dirty = realloc(file->dirty, file->room * sizeof *file->dirty);
        if (!file->dirty)
            abort();
    }
    file->dirty[file->count++] = (struct range){start, size};
}

/* What is durable now, as seen through a descriptor of its own: fd may be write-only. */
static void keep(const char *path, const char *name)
{
    char target[MAX_PATH], block[1 << 16];
    struct file *file = entry(name);
    struct stat64 state;
    snprintf(target, sizeof target, "%s/%s", shadow, name);
    int from = open64(path, O_RDONLY | O_CLOEXEC);
    int to = open64(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (from < 0 || to < 0 || fstat64(from, &state) != 0)
        abort();
    for (size_t i = 0; i < file->count; i++) {
        off64_t at = file->dirty[i].start;
        size_t left = file->dirty[i].size;
        while (left > 0) {
            ssize_t got = pread64(from, block, left < sizeof block ? left : sizeof block, at);
            if (got <= 0)
                break;
            if (real_pwrite64(to, block, (size_t)got, at) != got)
                abort();
            at += got;
            left -= (size_t)got;
        }
    }
    if (real_ftruncate64(to, state.st_size) != 0)
        abort();
    file->count = 0;
    close(from);
    close(to);
}

static int fails(uint32_t fault, int error)
{
    if (!(control[0] & fault))
        return 0;
    __atomic_add_fetch(&control[1], 1, __ATOMIC_RELAXED);
    errno = error;
    return 1;
}

static int synchronise(int fd, int (**real)(int))
{
    char path[MAX_PATH];
    const char *name = watched_fd(fd, path);
    if (!name)
        return (*real)(fd);
    pthread_mutex_lock(&lock);
    int result = 0;
    if (fails(FAIL_SYNC, EIO)) {
        entry(name)->count = 0;
        result = -1;
    } else if (!(control[0] & PRETEND_SYNC)) {
        if (!(control[0] & SKIP_SYNC))
            result = (*real)(fd);
        if (shadow && result == 0)
            keep(path, name);
    }
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd)
{
    return synchronise(fd, &real_fsync);
}

int fdatasync(int fd)
{
    return synchronise(fd, &real_fdatasync);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    char path[MAX_PATH];
    const char *name = watched_fd(fd, path);
    if (!name)
        return real_pwrite64(fd, data, size, at);
    if (fails(FAIL_WRITE, ENOSPC))
        return -1;
    pthread_mutex_lock(&lock);
    ssize_t done = real_pwrite64(fd, data, size, at);
    if (done > 0)
        note(name, at, (size_t)done);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return pwrite64(fd, data, size, at);
}

int ftruncate64(int fd, off64_t size)
{
    pthread_once(&once, set_up);
    return real_ftruncate64(fd, size);
}

int unlink(const char *path)
{
    char target[MAX_PATH];
    pthread_once(&once, set_up);
    const char *name = watched(path);
    pthread_mutex_lock(&lock);
    int result = real_unlink(path);
    if (result == 0 && name && shadow) {
        entry(name)->count = 0;
        snprintf(target, sizeof target, "%s/%s", shadow, name);
        real_unlink(target);
    }
    pthread_mutex_unlock(&lock);
    return result;
}
