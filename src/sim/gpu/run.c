#include "sim/gpu/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/text.h"
#include "sim/gpu/root.h"

enum { MAX_OPENED = 64, SIGNALLED = 128 };

/*
 * The new view of the machine while it is built. A mount needs something to be mounted on, and the
 * machine lacks much of what the node has: then the nearest directory above is opened up, which is
 * to cover it with an empty file system that holds all it had and has room for more.
 */
struct view {
    const char *dir; /* of the node, absolute */
    int node, root;  /* DIR and DIR/root, opened in the new namespace: mounts do not cross over */
    size_t n_opened;
    char opened[MAX_OPENED][128]; /* directories that we may add to */
};

/* --- namespaces ------------------------------------------------------------------------------ */

static int write_text(const char *path, const char *text, struct err *err)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    return 0;
}

/* Only the one who may not mount needs to become root of a small world. */
static int become_root(struct err *err)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char map[64];

    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return err_set(err, errno,
                       "cannot make a private view of the machine: %s; be root, or allow user "
                       "namespaces (kernel.unprivileged_userns_clone, "
                       "kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces)",
                       strerror(errno));
    int r = write_text("/proc/self/setgroups", "deny", err);
    snprintf(map, sizeof(map), "0 %u 1", uid);
    if (r >= 0)
        r = write_text("/proc/self/uid_map", map, err);
    snprintf(map, sizeof(map), "0 %u 1", gid);
    if (r >= 0)
        r = write_text("/proc/self/gid_map", map, err);
    return r;
}

static int enter_namespaces(struct err *err)
{
    if (unshare(CLONE_NEWNS) < 0) {
        int r = become_root(err);
        if (r < 0)
            return r;
    }
    /* What is mounted on the machine later still shows; what we mount does not. */
    if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return err_set(err, errno, "cannot make the mounts private: %s", strerror(errno));
    return 0;
}

/* --- opening directories up ------------------------------------------------------------------ */

static bool is_opened(const struct view *view, const char *path)
{
    for (size_t i = 0; i < view->n_opened; i++) {
        if (text_equal(view->opened[i], path))
            return true;
    }
    return false;
}

static int note_opened(struct view *view, const char *path, struct err *err)
{
    if (view->n_opened == MAX_OPENED || strlen(path) >= sizeof(view->opened[0]))
        return err_set(err, ENOSPC, "%s: too much to show", path);
    snprintf(view->opened[view->n_opened++], sizeof(view->opened[0]), "%s", path);
    return 0;
}

static int bind(const char *source, const char *target, struct err *err)
{
    if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0)
        return err_set(err, errno, "cannot show %s: %s", target, strerror(errno));
    return 0;
}

static int make_empty(const char *path, bool directory, struct err *err)
{
    if (directory && mkdir(path, 0755) < 0 && errno != EEXIST)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    if (directory)
        return 0;

    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd < 0 ? err_set(err, errno, "%s: %s", path, strerror(errno)) : 0;
}

/* One entry of a directory that is covered now; `old` still leads into it. */
static int keep_entry(int old, const char *name, const char *path, struct err *err)
{
    char target[PATH_MAX], source[PATH_MAX], link[PATH_MAX];
    struct stat st;

    /* What vanished meanwhile, or is none of our business, is left out. */
    if (fstatat(old, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        snprintf(target, sizeof(target), "%s/%s", path, name) >= (int)sizeof(target) ||
        snprintf(source, sizeof(source), "/proc/self/fd/%d/%s", old, name) >= (int)sizeof(source))
        return 0;
    if (S_ISLNK(st.st_mode)) {
        ssize_t n = readlinkat(old, name, link, sizeof(link) - 1);

        if (n < 0)
            return 0;
        link[n] = '\0';
        if (symlink(link, target) < 0)
            return err_set(err, errno, "%s: %s", target, strerror(errno));
        return 0;
    }
    int r = make_empty(target, S_ISDIR(st.st_mode), err);
    if (r >= 0 && mount(source, target, NULL, MS_BIND | MS_REC, NULL) < 0 && errno != ENOENT)
        r = err_set(err, errno, "cannot keep %s: %s", target, strerror(errno));
    return r;
}

static void close_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

/* Entries whose names start with `without` (may be NULL) are not kept. */
static int open_up(struct view *view, const char *path, const char *without, struct err *err)
{
    auto_(close_dir) DIR *old = opendir(path);
    char options[32];
    struct stat st;
    int r = note_opened(view, path, err);

    if (r < 0)
        return r;
    if (!old || fstat(dirfd(old), &st) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    snprintf(options, sizeof(options), "mode=%o", st.st_mode & 07777);
    if (mount("tranche", path, "tmpfs", MS_NOSUID, options) < 0)
        return err_set(err, errno, "cannot cover %s: %s", path, strerror(errno));

    for (struct dirent *entry; r >= 0 && (entry = readdir(old));) {
        if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, "..") ||
            (without && text_starts(entry->d_name, without)))
            continue;
        r = keep_entry(dirfd(old), entry->d_name, path, err);
    }
    return r;
}

/* --- showing the node ------------------------------------------------------------------------ */

static void parent_of(const char *path, char ret[static PATH_MAX])
{
    const char *slash = strrchr(path, '/');

    snprintf(ret, PATH_MAX, "%.*s", slash && slash != path ? (int)(slash - path) : 1,
             slash && slash != path ? path : "/");
}

/* Makes a directory or file that is not there: 0, or -ENOENT where there is no place for it. */
static int make_room(struct view *view, const char *path, bool directory, struct err *err)
{
    char parent[PATH_MAX];

    if (access(path, F_OK) == 0)
        return 0;
    parent_of(path, parent);
    /* /proc is the kernel's alone, and to cover / is to cover everything. */
    if (text_equal(parent, "/") || text_equal(parent, "/proc"))
        return err_set(err, ENOENT, "the machine has no %s", path);
    int r = make_room(view, parent, true, err);
    if (r >= 0 && !is_opened(view, parent))
        r = open_up(view, parent, NULL, err);
    if (r >= 0)
        r = make_empty(path, directory, err);
    if (r >= 0 && directory)
        r = note_opened(view, path, err);
    return r;
}

/* Puts a part of DIR/root (or, for "", DIR itself) over the machine's. Missing parts are skipped,
 * and so are those for which the machine has no place. */
static int show(struct view *view, const char *part, const char *path, struct err *err)
{
    char source[PATH_MAX];
    struct stat st;
    int r;

    if (fstatat(view->root, part[0] ? part : ".", &st, 0) < 0)
        return 0;
    r = make_room(view, path, S_ISDIR(st.st_mode), err);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (part[0])
        snprintf(source, sizeof(source), "/proc/self/fd/%d/%s", view->root, part);
    else
        snprintf(source, sizeof(source), "/proc/self/fd/%d", view->node);
    return bind(source, path, err);
}

/* Every entry of a directory of DIR/root. */
static int show_entries(struct view *view, const char *part, struct err *err)
{
    auto_(close_dir) DIR *dir = NULL;
    char path[PATH_MAX];
    int fd = openat(view->root, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

    if (fd < 0)
        return 0;
    dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return err_no_memory(err);
    }
    for (struct dirent *entry; r >= 0 && (entry = readdir(dir));) {
        if (text_equal(entry->d_name, ".") || text_equal(entry->d_name, ".."))
            continue;
        if (snprintf(path, sizeof(path), "/%s/%s", part, entry->d_name) < (int)sizeof(path))
            r = show(view, path + 1, path, err);
    }
    return r;
}

/*
 * Merges a directory of DIR/root over the machine's, both staying visible. Not every kernel lets
 * us; LD_LIBRARY_PATH then has to do.
 */
static void merge(const struct view *view, const char *part)
{
    char options[3 * PATH_MAX], path[PATH_MAX];

    snprintf(path, sizeof(path), "/%s", part);
    if (strpbrk(view->dir, ":,\\\"") || access(path, F_OK) < 0)
        return;
    snprintf(options, sizeof(options), "lowerdir=%s/root/%s:%s", view->dir, part, path);
    (void)!mount("tranche", path, "overlay", MS_RDONLY, options);
}

static int open_node(struct view *view, struct err *err)
{
    view->node = open(view->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (view->node < 0)
        return err_set(err, errno, "%s: %s", view->dir, strerror(errno));
    view->root = openat(view->node, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (view->root < 0)
        return err_set(err, errno, "%s/root: %s", view->dir, strerror(errno));
    return 0;
}

static int build_view(struct view *view, struct err *err)
{
    static const char *const parts[] = {
        "sys/bus/pci",        "sys/class/dmi/id/product_name", "sys/module/nvidia",
        "proc/driver/nvidia", "proc/driver/nvidia-caps",       "proc/devices",
        "proc/modules"
    };
    char path[PATH_MAX];
    int r = 0;

    merge(view, SIM_ROOT_LIBRARIES);
    merge(view, "usr/bin");
    merge(view, "lib/firmware");
    for (size_t i = 0; r >= 0 && i < ARRAY_LEN(parts); i++) {
        snprintf(path, sizeof(path), "/%s", parts[i]);
        r = show(view, parts[i], path, err);
    }
    if (r >= 0)
        r = show_entries(view, "sys/devices", err);
    /* A GPU that the machine itself may have is not one of the node's. */
    if (r >= 0)
        r = open_up(view, "/dev", "nvidia", err);
    if (r >= 0)
        r = show_entries(view, "dev", err);
    return r < 0 ? r : show(view, "", "/run/tranche/sim", err);
}

/* --- the program ----------------------------------------------------------------------------- */

static int set_environment(const struct view *view, struct err *err)
{
    const char *old = getenv("LD_LIBRARY_PATH");
    char paths[2 * PATH_MAX];

    snprintf(paths, sizeof(paths), "%s/root/" SIM_ROOT_LIBRARIES "%s%s", view->dir,
             old && *old ? ":" : "", old ? old : "");
    if (setenv("LD_LIBRARY_PATH", paths, 1) < 0 || setenv("TRANCHE_SIM", view->dir, 1) < 0)
        return err_no_memory(err);

    /* For the node's nvidia-smi, which asks us to reset GPUs. */
    ssize_t n = readlink("/proc/self/exe", paths, sizeof(paths) - 1);
    if (n > 0) {
        paths[n] = '\0';
        if (setenv("TRANCHE_SIM_PROGRAM", paths, 0) < 0)
            return err_no_memory(err);
    }
    return 0;
}

/* Returns only when the program could not be started. */
static int start(struct view *view, char *const argv[], struct err *err)
{
    char cwd[PATH_MAX];
    bool placed = getcwd(cwd, sizeof(cwd)) != NULL;

    int r = enter_namespaces(err);
    if (r >= 0)
        r = open_node(view, err);
    if (r >= 0)
        r = build_view(view, err);
    if (r >= 0)
        r = set_environment(view, err);
    if (r < 0)
        return r;
    /* Into the new view of where we are; a directory that is gone there is no reason to fail. */
    if (placed)
        (void)!chdir(cwd);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execvp(argv[0], argv);
    return err_set(err, errno, "cannot run %s: %s", argv[0], strerror(errno));
}

/* The child's side: a failure goes up the pipe, a started program closes it. */
[[gnu::noreturn]] static void child(struct view *view, char *const argv[], int report,
                                    const sigset_t *mask)
{
    struct err err = {};

    sigprocmask(SIG_SETMASK, mask, NULL);
    start(view, argv, &err);
    (void)!write(report, &err, sizeof(err));
    _exit(127);
}

static void passed_on(sigset_t *set)
{
    static const int signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD };

    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaddset(set, signals[i]);
}

/* A terminal sends its signals to the program itself, as it is in our process group. */
static int wait_for(pid_t pid, const sigset_t *signals)
{
    siginfo_t info;
    int status;

    for (;;) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
        int signal = sigwaitinfo(signals, &info);
        if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL)
            kill(pid, signal);
    }
}

static int fork_and_wait(struct view *view, char *const argv[], struct err *err)
{
    auto_close int report_in = -EBADF;
    struct sigaction usual = { .sa_handler = SIG_DFL }, old;
    sigset_t signals, mask;
    struct err failure = {};
    int report[2];

    if (pipe2(report, O_CLOEXEC) < 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    report_in = report[0];
    passed_on(&signals);
    sigprocmask(SIG_BLOCK, &signals, &mask);
    sigaction(SIGCHLD, &usual, &old); /* where it is ignored, children leave no status */

    pid_t pid = fork();
    if (pid == 0)
        child(view, argv, report[1], &mask);
    close(report[1]);
    int status = pid < 0 ? -errno : wait_for(pid, &signals);
    sigaction(SIGCHLD, &old, NULL);
    sigprocmask(SIG_SETMASK, &mask, NULL);

    if (pid < 0)
        return err_set(err, -status, "cannot start a process: %s", strerror(-status));
    if (read(report_in, &failure, sizeof(failure)) == (ssize_t)sizeof(failure))
        return err_set(err, failure.code, "%s", failure.text);
    return status;
}

int sim_run(const char *dir, char *const argv[], struct err *err)
{
    auto_free char *real = realpath(dir, NULL);
    struct view view = { .dir = real, .node = -EBADF, .root = -EBADF };

    if (!real)
        return err_set(err, errno, "%s: %s", dir, strerror(errno));
    return fork_and_wait(&view, argv, err);
}
