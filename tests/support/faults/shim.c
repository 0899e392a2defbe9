/* What a test does to a program through the system calls of its C library; LD_PRELOAD puts it before them.
 *
 * FAULTS is a file that the test and the programs map: a page of switches, then a journal. FAULTS_DIR is a folder;
 * what is done to the files in it is written to the journal, in order, with the data, if the switch is on. A sync
 * of such a file writes its place in the journal and nothing to the disk: what a disk would hold after a power cut
 * is for the test to make up. The journal is whole at any moment, also that of kill -9.
 *
 * For 64-bit Linux, where off_t is what off64_t is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* As tests/support/faults.rs has it. */
struct switches {
    volatile uint64_t used;      /* bytes of journal */
    volatile int64_t clock_ahead; /* nanoseconds that the wall clock is ahead */
    volatile uint32_t journal;
    volatile uint32_t disk_full;
    volatile uint32_t slow_sync; /* microseconds that a sync takes at most */
    volatile uint32_t refused;   /* how often the disk was too full */
    volatile uint32_t no_descriptors;
    volatile int64_t room; /* bytes that may still come to a disk that is FULL_BUT_FOR_ROOM */
    volatile int64_t uptime_ahead; /* nanoseconds that the monotonic clock is ahead */
};
/* disk_full: nothing can be written, or files only grow by what was given back. */
enum { FULL = 1, FULL_BUT_FOR_ROOM };
struct record {
    uint32_t what, name_length;
    uint64_t file, at, length;
};
enum { CREATE = 1, UNLINK, RENAME, WRITE, TRUNCATE, SYNC, SYNC_DIR };
#define HEAD 4096
#define FDS 4096

static struct switches *switches;
static size_t mapped;
static int fault_fd = -1;
static char dir[PATH_MAX];
static size_t dir_length;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
/* The inode of each open file in the folder; DIRECTORY for the folder itself. */
static volatile uint64_t files[FDS];
#define DIRECTORY UINT64_MAX

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS"), *folder = getenv("FAULTS_DIR");
    struct stat found;
    if (!path) return;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0 || fstat(fd, &found)) abort();
    /* Out of the way of a program that has few descriptors. */
    void *memory = mmap(NULL, found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) abort();
    mapped = found.st_size;
    if (folder) {
        dir_length = strlen(folder);
        memcpy(dir, folder, dir_length + 1);
        fault_fd = fd;
    } else {
        syscall(SYS_close, fd);
    }
    switches = memory;
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    while (flock(fault_fd, LOCK_EX) && errno == EINTR) {
    }
}

static void unlock(void) {
    int error = errno;
    flock(fault_fd, LOCK_UN);
    pthread_mutex_unlock(&mutex);
    errno = error;
}

/* Its name in the folder; NULL if it is elsewhere. */
static const char *name_of(const char *path) {
    if (!dir_length || strncmp(path, dir, dir_length)) return NULL;
    if (path[dir_length] != '/') return NULL;
    return path + dir_length + 1;
}

static int is_folder(const char *path) {
    if (!dir_length || strncmp(path, dir, dir_length)) return 0;
    return !path[dir_length] || !strcmp(path + dir_length, "/");
}

static uint64_t file_of(int fd) {
    return switches && fd >= 0 && fd < FDS ? files[fd] : 0;
}

/* Under the lock: is there no room for so many bytes more? */
static int is_full(off_t more) {
    if (!switches->disk_full) return 0;
    if (switches->disk_full == FULL_BUT_FOR_ROOM && switches->room >= more) {
        switches->room -= more;
        return 0;
    }
    __atomic_fetch_add(&switches->refused, 1, __ATOMIC_RELAXED);
    return 1;
}

/* Under the lock. */
static void note(struct record r, const char *name, const void *data) {
    if (!switches->journal) return;
    size_t need = sizeof r + r.name_length + (r.what == WRITE ? r.length : 0);
    if (HEAD + switches->used + need > mapped) {
        dprintf(2, "faults: the journal is full\n");
        abort();
    }
    char *place = (char *)switches + HEAD + switches->used;
    memcpy(place, &r, sizeof r);
    memcpy(place + sizeof r, name, r.name_length);
    if (r.what == WRITE) memcpy(place + sizeof r + r.name_length, data, r.length);
    __atomic_store_n(&switches->used, switches->used + need, __ATOMIC_RELEASE);
}

static int has_descriptors(void) {
    if (!switches || !switches->no_descriptors) return 1;
    errno = EMFILE;
    return 0;
}

int socket(int domain, int type, int protocol) {
    return has_descriptors() ? syscall(SYS_socket, domain, type, protocol) : -1;
}

static int open_file(int at, const char *path, int flags, mode_t mode) {
    if (!has_descriptors()) return -1;
    const char *name = switches ? name_of(path) : NULL;
    if (!name) {
        int fd = syscall(SYS_openat, at, path, flags, mode);
        if (fd >= 0 && fd < FDS && switches && is_folder(path)) files[fd] = DIRECTORY;
        return fd;
    }
    struct stat found;
    lock();
    int is_new = (flags & O_CREAT) && lstat(path, &found);
    if (is_new && is_full(4096)) {
        unlock();
        errno = ENOSPC;
        return -1;
    }
    int fd = syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &found) && S_ISREG(found.st_mode)) {
        if (is_new)
            note((struct record){CREATE, strlen(name), found.st_ino, 0, 0}, name, NULL);
        else if (flags & O_TRUNC)
            note((struct record){TRUNCATE, 0, found.st_ino, 0, 0}, "", NULL);
        if (fd < FDS) files[fd] = found.st_ino;
    }
    unlock();
    return fd;
}

#define MODE                                  \
    mode_t mode = 0;                          \
    if (flags & (O_CREAT | O_TMPFILE)) {      \
        va_list rest;                         \
        va_start(rest, flags);                \
        mode = va_arg(rest, mode_t);          \
        va_end(rest);                         \
    }
int open(const char *path, int flags, ...) { MODE return open_file(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_file(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_file(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_file(at, path, flags, mode); }

int close(int fd) {
    if (file_of(fd)) files[fd] = 0;
    return syscall(SYS_close, fd);
}

static ssize_t write_at(int fd, const void *data, size_t length, off_t at) {
    struct stat found;
    off_t more = fstat(fd, &found) || at + (off_t)length <= found.st_size ? 0 : at + (off_t)length - found.st_size;
    if (is_full(more)) {
        errno = ENOSPC;
        return -1;
    }
    ssize_t written = syscall(SYS_pwrite64, fd, data, length, at);
    if (written > 0) note((struct record){WRITE, 0, files[fd], at, written}, "", data);
    return written;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t at) {
    if (!file_of(fd)) return syscall(SYS_pwrite64, fd, data, length, at);
    lock();
    ssize_t written = write_at(fd, data, length, at);
    unlock();
    return written;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return pwrite64(fd, data, length, at); }

ssize_t write(int fd, const void *data, size_t length) {
    if (!file_of(fd)) return syscall(SYS_write, fd, data, length);
    lock();
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    off_t at = lseek(fd, 0, appends ? SEEK_END : SEEK_CUR);
    ssize_t written = write_at(fd, data, length, at);
    if (written > 0) lseek(fd, at + written, SEEK_SET);
    unlock();
    return written;
}

int ftruncate64(int fd, off_t length) {
    if (!file_of(fd)) return syscall(SYS_ftruncate, fd, length);
    lock();
    int failed = syscall(SYS_ftruncate, fd, length);
    if (!failed) note((struct record){TRUNCATE, 0, files[fd], 0, length}, "", NULL);
    unlock();
    return failed;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int posix_fallocate64(int fd, off_t at, off_t length) {
    if (file_of(fd)) {
        lock();
        int full = is_full(length);
        unlock();
        if (full) return ENOSPC;
    }
    return syscall(SYS_fallocate, fd, 0, at, length) ? errno : 0;
}
int posix_fallocate(int fd, off_t at, off_t length) { return posix_fallocate64(fd, at, length); }

static int sync_file(int fd, long call) {
    uint64_t file = file_of(fd);
    if (!file || !switches->journal) return syscall(call, fd);
    /* What is written while we sync is not synced. */
    uint64_t until = __atomic_load_n(&switches->used, __ATOMIC_ACQUIRE);
    if (switches->slow_sync) {
        struct timespec now;
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        usleep(now.tv_nsec / 1000 % switches->slow_sync);
    }
    lock();
    note((struct record){file == DIRECTORY ? SYNC_DIR : SYNC, 0, file, until, 0}, "", NULL);
    unlock();
    return 0;
}
int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

int unlink(const char *path) {
    const char *name = switches ? name_of(path) : NULL;
    if (!name) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    struct stat found;
    lock();
    off_t freed = stat(path, &found) ? 0 : found.st_size;
    int failed = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!failed) switches->room += freed;
    if (!failed) note((struct record){UNLINK, strlen(name), 0, 0, 0}, name, NULL);
    unlock();
    return failed;
}

int rename(const char *from, const char *to) {
    const char *old = switches ? name_of(from) : NULL, *new = switches ? name_of(to) : NULL;
    if (!old || !new) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    char both[2 * NAME_MAX + 2];
    int length = snprintf(both, sizeof both, "%s/%s", old, new);
    lock();
    int failed = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (!failed) note((struct record){RENAME, length, 0, 0, 0}, both, NULL);
    unlock();
    return failed;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    int is_wall = which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE;
    if (!failed && switches && (is_wall || which == CLOCK_MONOTONIC)) {
        int64_t ahead = is_wall ? switches->clock_ahead : switches->uptime_ahead;
        int64_t ns = now->tv_nsec + ahead % 1000000000;
        now->tv_sec += ahead / 1000000000 + (ns >= 1000000000) - (ns < 0);
        now->tv_nsec = ns + (ns < 0) * 1000000000LL - (ns >= 1000000000) * 1000000000LL;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec ts;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    *now = (struct timeval){ts.tv_sec, ts.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *place) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (place) *place = ts.tv_sec;
    return ts.tv_sec;
}
