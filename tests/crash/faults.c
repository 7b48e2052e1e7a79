/* Loaded into the product (LD_PRELOAD): counts the calls that change files below one folder, in all threads and
   processes together, and at the chosen one ends the process with SIGKILL or lets the call fail. Told by crash_arm. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL_BEFORE = 1, KILL_HALFWAY = 2, FAIL = 3 };

struct shared {
    atomic_long count;
    long at, times; /* times 0: this call and all after it */
    int what, error, armed;
    char below[PATH_MAX];
    char name[64]; /* of the call that was hit */
};
static struct shared *state;

__attribute__((constructor)) static void begin(void) {
    state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* at 0: count only; what 0: disarmed. */
void crash_arm(const char *below, int armed, long at, int what, int error, long times) {
    state->armed = 0;
    atomic_store(&state->count, 0);
    state->at = at;
    state->what = what;
    state->error = error;
    state->times = times;
    state->name[0] = 0;
    strncpy(state->below, below, sizeof state->below - 1);
    state->armed = armed;
}

long crash_count(void) { return atomic_load(&state->count); }
const char *crash_name(void) { return state->name; }
void crash_disarm(void) { state->armed = 0; }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* 0: go on; 1: fail with state->error; 2: do half of it and die. */
static int hit(const char *name, const char *path) {
    if (!state || !state->armed || !path || strncmp(path, state->below, strlen(state->below))) return 0;
    long n = atomic_fetch_add(&state->count, 1) + 1;
    if (!state->at || n < state->at) return 0;
    if (state->what == FAIL) {
        if (state->times && n >= state->at + state->times) return 0;
        if (n == state->at) strncpy(state->name, name, sizeof state->name - 1);
        return 1;
    }
    if (n != state->at) return 0;
    strncpy(state->name, name, sizeof state->name - 1);
    if (state->what == KILL_BEFORE) die();
    return 2;
}

static const char *path_of(int fd, char *into) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, into, PATH_MAX - 1);
    if (n < 0) return NULL;
    into[n] = 0;
    return into;
}

static const char *path_at(int fd, const char *name, char *into) {
    if (name[0] == '/' || fd == AT_FDCWD) return name;
    const char *folder = path_of(fd, into);
    if (!folder) return NULL;
    size_t n = strlen(into);
    snprintf(into + n, PATH_MAX - n, "/%s", name);
    return into;
}

static int hit_fd(const char *name, int fd) {
    char into[PATH_MAX];
    return state && state->armed ? hit(name, path_of(fd, into)) : 0;
}

static int hit_at(const char *name, int fd, const char *file) {
    char into[2 * PATH_MAX];
    return state && state->armed ? hit(name, path_at(fd, file, into)) : 0;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define FAILED(h) if ((h) == 1) { errno = state->error; return -1; }
#define ENDED(h) if ((h) == 2) die()

#define OPENED(name) int name(const char *path, int flags, ...) { REAL(name); mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
    int h = flags & (O_CREAT | O_TRUNC) ? hit_at(#name, AT_FDCWD, path) : 0; FAILED(h); \
    int r = real(path, flags, mode); ENDED(h); return r; }
OPENED(open)
OPENED(open64)
#define OPENED_AT(name) int name(int fd, const char *path, int flags, ...) { REAL(name); mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
    int h = flags & (O_CREAT | O_TRUNC) ? hit_at(#name, fd, path) : 0; FAILED(h); \
    int r = real(fd, path, flags, mode); ENDED(h); return r; }
OPENED_AT(openat)
OPENED_AT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write); int h = fd > 2 ? hit_fd("write", fd) : 0; FAILED(h);
    ssize_t r = real(fd, data, h == 2 ? size / 2 : size); ENDED(h); return r;
}
#define WRITTEN(name, offset_t) ssize_t name(int fd, const void *data, size_t size, offset_t offset) { \
    REAL(name); int h = hit_fd(#name, fd); FAILED(h); \
    ssize_t r = real(fd, data, h == 2 ? size / 2 : size, offset); ENDED(h); return r; }
WRITTEN(pwrite, off_t)
WRITTEN(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev); int h = hit_fd("writev", fd); FAILED(h); ssize_t r = real(fd, parts, count); ENDED(h); return r;
}
#define SENT(name, offset_t) ssize_t name(int to, int from, offset_t *offset, size_t size) { \
    REAL(name); int h = hit_fd(#name, to); FAILED(h); \
    ssize_t r = real(to, from, offset, h == 2 ? size / 2 : size); ENDED(h); return r; }
SENT(sendfile, off_t)
SENT(sendfile64, off64_t)

#define ON_FD(name) int name(int fd) { REAL(name); int h = hit_fd(#name, fd); FAILED(h); int r = real(fd); ENDED(h); return r; }
ON_FD(fsync)
ON_FD(fdatasync)
ON_FD(syncfs)
int ftruncate(int fd, off_t size) { REAL(ftruncate); int h = hit_fd("ftruncate", fd); FAILED(h); int r = real(fd, size); ENDED(h); return r; }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); int h = hit_fd("ftruncate", fd); FAILED(h); int r = real(fd, size); ENDED(h); return r; }
int rename(const char *a, const char *b) { REAL(rename); int h = hit_at("rename", AT_FDCWD, a); FAILED(h); int r = real(a, b); ENDED(h); return r; }
int renameat(int fa, const char *a, int fb, const char *b) { REAL(renameat); int h = hit_at("rename", fa, a); FAILED(h); int r = real(fa, a, fb, b); ENDED(h); return r; }
int renameat2(int fa, const char *a, int fb, const char *b, unsigned int f) { REAL(renameat2); int h = hit_at("rename", fa, a); FAILED(h); int r = real(fa, a, fb, b, f); ENDED(h); return r; }
int link(const char *a, const char *b) { REAL(link); int h = hit_at("link", AT_FDCWD, b); FAILED(h); int r = real(a, b); ENDED(h); return r; }
int linkat(int fa, const char *a, int fb, const char *b, int f) { REAL(linkat); int h = hit_at("link", fb, b); FAILED(h); int r = real(fa, a, fb, b, f); ENDED(h); return r; }
int symlinkat(const char *a, int fd, const char *b) { REAL(symlinkat); int h = hit_at("symlink", fd, b); FAILED(h); int r = real(a, fd, b); ENDED(h); return r; }
int unlink(const char *a) { REAL(unlink); int h = hit_at("unlink", AT_FDCWD, a); FAILED(h); int r = real(a); ENDED(h); return r; }
int unlinkat(int fd, const char *a, int f) { REAL(unlinkat); int h = hit_at("unlink", fd, a); FAILED(h); int r = real(fd, a, f); ENDED(h); return r; }
int rmdir(const char *a) { REAL(rmdir); int h = hit_at("rmdir", AT_FDCWD, a); FAILED(h); int r = real(a); ENDED(h); return r; }
int mkdir(const char *a, mode_t m) { REAL(mkdir); int h = hit_at("mkdir", AT_FDCWD, a); FAILED(h); int r = real(a, m); ENDED(h); return r; }
int mkdirat(int fd, const char *a, mode_t m) { REAL(mkdirat); int h = hit_at("mkdir", fd, a); FAILED(h); int r = real(fd, a, m); ENDED(h); return r; }
