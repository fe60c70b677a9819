/* Preloaded into a process, it lets calls of one kind fail: the n-th one, and as many after it as are asked for.
 *
 * What fails is written by the test into a file that all these processes map (`struct control`, CALLS_CONTROL names
 * it), so that it can be changed while they run. Only files below `root` count; an accept always does. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, OPEN, WRITE, FSYNC, NAME, MMAP, ACCEPT };

struct control { /* as in failing_calls.py */
    uint32_t kind;
    int32_t error;
    uint64_t first, last; /* of the calls that fail, counted from 1 */
    uint64_t seen, failed;
    int64_t session; /* whose processes' calls count */
    char root[1024];
    char where[1024]; /* of the first one that failed */
};

static struct control *control;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CALLS_CONTROL");
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    void *(*real_mmap)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    int fd = name ? real_open(name, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = real_mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) control = mapped;
}

/* Whether a call of this kind on this file fails; sets errno. */
static int fails(unsigned kind, const char *path) {
    if (getsid(0) != control->session) return 0;
    size_t length = strlen(control->root);
    if (strncmp(path, control->root, length) != 0 || (path[length] != '/' && path[length] != '\0')) return 0;
    uint64_t nth = __atomic_add_fetch(&control->seen, 1, __ATOMIC_SEQ_CST);
    if (nth < control->first || nth > control->last || control->kind != kind) return 0;
    if (__atomic_add_fetch(&control->failed, 1, __ATOMIC_SEQ_CST) == 1)
        strncpy(control->where, path, sizeof control->where - 1);
    errno = control->error;
    return 1;
}

static int armed(unsigned kind) { return control && control->kind == kind; }

static int at_fails(unsigned kind, int folder, const char *path) {
    char whole[2 * PATH_MAX], link[64], base[PATH_MAX];
    if (!armed(kind) || !path) return 0;
    if (path[0] == '/') return fails(kind, path);
    ssize_t size = -1;
    if (folder == AT_FDCWD) size = getcwd(base, sizeof base) ? (ssize_t)strlen(base) : -1;
    else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        size = readlink(link, base, sizeof base - 1);
    }
    if (size < 0) return 0;
    base[size] = '\0';
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return fails(kind, whole);
}

static int fd_fails(unsigned kind, int fd) {
    char link[64], path[PATH_MAX];
    if (!armed(kind) || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = '\0';
    return fails(kind, path);
}

/* A function of the C library, found once, that fails with `value` where `test` says so. */
#define CALL(type, name, parameters, arguments, test, value)                     \
    type name parameters {                                                       \
        static type(*real) parameters;                                           \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);           \
        return (test) ? (value) : real arguments;                                \
    }
#define OPENING(name, parameters, arguments, test)                               \
    int name parameters {                                                        \
        static int(*real) parameters;                                            \
        mode_t mode = 0;                                                         \
        if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name);            \
        if (flags & (O_CREAT | O_TMPFILE)) {                                     \
            va_list more;                                                        \
            va_start(more, flags);                                               \
            mode = va_arg(more, mode_t);                                         \
            va_end(more);                                                        \
        }                                                                        \
        return (test) ? -1 : real arguments;                                     \
    }
#define PATH const char *path

OPENING(open, (PATH, int flags, ...), (path, flags, mode), at_fails(OPEN, AT_FDCWD, path))
OPENING(open64, (PATH, int flags, ...), (path, flags, mode), at_fails(OPEN, AT_FDCWD, path))
OPENING(openat, (int at, PATH, int flags, ...), (at, path, flags, mode), at_fails(OPEN, at, path))
OPENING(openat64, (int at, PATH, int flags, ...), (at, path, flags, mode), at_fails(OPEN, at, path))
CALL(FILE *, fopen, (PATH, const char *how), (path, how), at_fails(OPEN, AT_FDCWD, path), NULL)
CALL(FILE *, fopen64, (PATH, const char *how), (path, how), at_fails(OPEN, AT_FDCWD, path), NULL)
CALL(DIR *, opendir, (PATH), (path), at_fails(OPEN, AT_FDCWD, path), NULL)

#define DATA int fd, const void *data, size_t size
#define PIECES int fd, const struct iovec *pieces, int count
CALL(ssize_t, write, (DATA), (fd, data, size), fd_fails(WRITE, fd), -1)
CALL(ssize_t, pwrite, (DATA, off_t at), (fd, data, size, at), fd_fails(WRITE, fd), -1)
CALL(ssize_t, pwrite64, (DATA, off64_t at), (fd, data, size, at), fd_fails(WRITE, fd), -1)
CALL(ssize_t, writev, (PIECES), (fd, pieces, count), fd_fails(WRITE, fd), -1)
CALL(ssize_t, sendfile, (int fd, int in, off_t *at, size_t size), (fd, in, at, size), fd_fails(WRITE, fd), -1)
CALL(ssize_t, sendfile64, (int fd, int in, off64_t *at, size_t size), (fd, in, at, size), fd_fails(WRITE, fd), -1)
CALL(int, ftruncate, (int fd, off_t size), (fd, size), fd_fails(WRITE, fd), -1)
CALL(int, ftruncate64, (int fd, off64_t size), (fd, size), fd_fails(WRITE, fd), -1)
CALL(size_t, fwrite, (const void *data, size_t size, size_t count, FILE *stream), (data, size, count, stream),
     fd_fails(WRITE, fileno(stream)), 0)

CALL(int, fsync, (int fd), (fd), fd_fails(FSYNC, fd), -1)
CALL(int, fdatasync, (int fd), (fd), fd_fails(FSYNC, fd), -1)

CALL(int, rename, (PATH, const char *to), (path, to), at_fails(NAME, AT_FDCWD, to), -1)
CALL(int, renameat, (int at, PATH, int in, const char *to), (at, path, in, to), at_fails(NAME, in, to), -1)
CALL(int, link, (PATH, const char *to), (path, to), at_fails(NAME, AT_FDCWD, to), -1)
CALL(int, linkat, (int at, PATH, int in, const char *to, int flags), (at, path, in, to, flags), at_fails(NAME, in, to),
     -1)
CALL(int, mkdir, (PATH, mode_t mode), (path, mode), at_fails(NAME, AT_FDCWD, path), -1)
CALL(int, unlink, (PATH), (path), at_fails(NAME, AT_FDCWD, path), -1)
CALL(int, unlinkat, (int at, PATH, int flags), (at, path, flags), at_fails(NAME, at, path), -1)
CALL(int, rmdir, (PATH), (path), at_fails(NAME, AT_FDCWD, path), -1)

#define MAPPING void *to, size_t size, int how, int flags, int fd
CALL(void *, mmap, (MAPPING, off_t at), (to, size, how, flags, fd, at), fd_fails(MMAP, fd), MAP_FAILED)
CALL(void *, mmap64, (MAPPING, off64_t at), (to, size, how, flags, fd, at), fd_fails(MMAP, fd), MAP_FAILED)

static int refused(void) { return armed(ACCEPT) && fails(ACCEPT, control->root); }
#define PEER int fd, struct sockaddr *peer, socklen_t *size
CALL(int, accept, (PEER), (fd, peer, size), refused(), -1)
CALL(int, accept4, (PEER, int flags), (fd, peer, size, flags), refused(), -1)
