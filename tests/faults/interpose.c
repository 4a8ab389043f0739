/*
 * Fails, or kills, at the n-th call that changes files below one folder.
 *
 * In: fault_arm(folder, n, mode, log) from the process itself, by ctypes; the library is loaded with
 * LD_PRELOAD. Out: errors, or SIGKILL, and a line a call in the log: number, call, bytes, path. It
 * sees what goes through libc's symbols, from any language; not a store into a mapped page, and not a
 * system call made by hand.
 *
 * cc -shared -fPIC -O2 -o interpose.so interpose.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { WATCH = 0, FULL = 1, BROKEN = 2, KILL = 3 };

/* What a call asks of the disk: a full one refuses GROWS ever after the n-th call, OTHER where it is
   the n-th, and lets go of files, FREES, always. */
enum want { OTHER = 0, GROWS = 1, FREES = 2 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static enum mode mode;
static long target;
static volatile long count, hits;
static int log_fd = -1;

void fault_arm(const char *path, long n, int how, const char *log)
{
    pthread_mutex_lock(&lock);
    folder_length = strlen(path);
    memcpy(folder, path, folder_length + 1);
    target = n;
    mode = how;
    count = hits = 0;
    if (log_fd < 0 && log != NULL)
        log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    pthread_mutex_unlock(&lock);
}

/* How often a fault was given; nothing is failed after this. */
long fault_disarm(void)
{
    pthread_mutex_lock(&lock);
    folder_length = 0;
    pthread_mutex_unlock(&lock);
    return hits;
}

static int path_of(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return 1;
}

/* 0 where the call may go on, else -1 with errno set. */
static int judge(const char *call, const char *path, long bytes, enum want want)
{
    int saved = errno, failure = 0;
    if (!folder_length)
        return 0;
    pthread_mutex_lock(&lock);
    if (folder_length && strncmp(path, folder, folder_length) == 0 &&
        (path[folder_length] == '/' || path[folder_length] == 0)) {
        long n = ++count;
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld\t%s\t%ld\t%s\n", n, call, bytes,
                              path[folder_length] ? path + folder_length + 1 : ".");
        if (log_fd >= 0)
            syscall(SYS_write, log_fd, line, length);
        if (n == target && mode == KILL)
            syscall(SYS_kill, getpid(), SIGKILL);
        if (mode == BROKEN && n == target)
            failure = EIO;
        if (mode == FULL && (want == GROWS ? n >= target : want == OTHER && n == target))
            failure = ENOSPC;
        if (failure)
            hits++;
    }
    pthread_mutex_unlock(&lock);
    errno = failure ? failure : saved;
    return failure ? -1 : 0;
}

static int judge_fd(const char *call, int fd, long bytes, enum want want)
{
    char path[PATH_MAX];
    int saved = errno;
    if (!folder_length)
        return 0;
    int known = path_of(fd, path);
    errno = saved;
    return known ? judge(call, path, bytes, want) : 0;
}

static int judge_at(const char *call, int at, const char *name, enum want want)
{
    char path[PATH_MAX], base[PATH_MAX];
    int saved = errno;
    if (!folder_length || name == NULL)
        return 0;
    if (name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else {
        if (at == AT_FDCWD) {
            if (syscall(SYS_getcwd, base, sizeof base) <= 0)
                return 0;
        } else if (!path_of(at, base)) {
            errno = saved;
            return 0;
        }
        if (strlen(base) + strlen(name) + 2 > sizeof path)
            return 0;
        strcpy(path, base);
        strcat(path, "/");
        strcat(path, name);
    }
    errno = saved;
    return judge(call, path, 0, want);
}

#define REAL(name, ...) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))(__VA_ARGS__)

ssize_t write(int fd, const void *data, size_t size)
{
    return judge_fd("write", fd, size, GROWS) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return judge_fd("pwrite", fd, size, GROWS) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return judge_fd("pwrite", fd, size, GROWS) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

static long sum(const struct iovec *parts, int number)
{
    long size = 0;
    for (int i = 0; i < number; i++)
        size += parts[i].iov_len;
    return size;
}

ssize_t writev(int fd, const struct iovec *parts, int number)
{
    if (judge_fd("writev", fd, sum(parts, number), GROWS))
        return -1;
    return syscall(SYS_writev, fd, parts, number);
}

ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t at)
{
    if (judge_fd("pwritev", fd, sum(parts, number), GROWS))
        return -1;
    return REAL(pwritev, fd, parts, number, at);
}

int fsync(int fd) { return judge_fd("fsync", fd, 0, OTHER) ? -1 : syscall(SYS_fsync, fd); }

int fdatasync(int fd)
{
    return judge_fd("fdatasync", fd, 0, OTHER) ? -1 : syscall(SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
    return judge_fd("ftruncate", fd, size, GROWS) ? -1 : syscall(SYS_ftruncate, fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return judge_fd("ftruncate", fd, size, GROWS) ? -1 : syscall(SYS_ftruncate, fd, size);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    return judge_fd("fallocate", fd, size, GROWS) ? errno : REAL(posix_fallocate, fd, at, size);
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    return judge_fd("fallocate", fd, size, GROWS) ? errno : REAL(posix_fallocate64, fd, at, size);
}

int rename(const char *from, const char *to)
{
    return judge_at("rename", AT_FDCWD, to, OTHER) ? -1 : REAL(rename, from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return judge_at("rename", to_at, to, OTHER) ? -1 : REAL(renameat, from_at, from, to_at, to);
}

int mkdir(const char *path, mode_t rights)
{
    return judge_at("mkdir", AT_FDCWD, path, GROWS) ? -1 : REAL(mkdir, path, rights);
}

int unlink(const char *path)
{
    return judge_at("unlink", AT_FDCWD, path, FREES) ? -1 : REAL(unlink, path);
}

int unlinkat(int at, const char *path, int flags)
{
    return judge_at("unlink", at, path, FREES) ? -1 : REAL(unlinkat, at, path, flags);
}

int rmdir(const char *path)
{
    return judge_at("rmdir", AT_FDCWD, path, FREES) ? -1 : REAL(rmdir, path);
}

static int judge_open(int at, const char *path, int flags)
{
    if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_TMPFILE) == O_TMPFILE)
        return 0;
    return judge_at("open", at, path, flags & O_CREAT ? GROWS : OTHER);
}

#define RIGHTS(last)                                          \
    mode_t rights = 0;                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                      \
        va_list rest;                                         \
        va_start(rest, last);                                 \
        rights = va_arg(rest, mode_t);                        \
        va_end(rest);                                         \
    }

int open(const char *path, int flags, ...)
{
    RIGHTS(flags)
    if (judge_open(AT_FDCWD, path, flags))
        return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, rights);
}

int open64(const char *path, int flags, ...)
{
    RIGHTS(flags)
    if (judge_open(AT_FDCWD, path, flags))
        return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, rights);
}

int openat(int at, const char *path, int flags, ...)
{
    RIGHTS(flags)
    return judge_open(at, path, flags) ? -1 : syscall(SYS_openat, at, path, flags, rights);
}

int openat64(int at, const char *path, int flags, ...)
{
    RIGHTS(flags)
    return judge_open(at, path, flags) ? -1 : syscall(SYS_openat, at, path, flags, rights);
}

FILE *fopen(const char *path, const char *how)
{
    if (strpbrk(how, "wa+") && judge_at("open", AT_FDCWD, path, GROWS))
        return NULL;
    return REAL(fopen, path, how);
}

FILE *fopen64(const char *path, const char *how)
{
    if (strpbrk(how, "wa+") && judge_at("open", AT_FDCWD, path, GROWS))
        return NULL;
    return REAL(fopen64, path, how);
}
