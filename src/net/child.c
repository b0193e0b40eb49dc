#include "net/child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/mem.h"
#include "net/loop_uv.h"

enum { DEFAULT_OUTPUT_MAX = 64 << 10, DEFAULT_GRACE_MS = 2000, INPUT_MAX = 1 << 20 };

/* Reads per turn; together what a pipe holds, so that the last turn gets everything. */
enum { READ_STEP = 4096, READS = 16 };

/* One pipe from the child. */
struct outlet {
    int fd; /* owned, -1 when closed */
    struct loop_fd *ready;
    struct buf text;
    bool cut;
};

struct child {
    uv_process_t process; /* first, lives until its close callback */
    struct loop *loop;
    struct loop_leftover leftover;
    struct outlet out, err;
    struct timer deadline;
    uint64_t grace_ms;
    child_fn *fn;
    void *user;
    bool timed_out, over, freed;
};

/* ---- output ---- */

static void outlet_close(struct outlet *outlet)
{
    loop_fd_free(steal(outlet->ready));
    if (outlet->fd >= 0)
        close(outlet->fd);
    outlet->fd = -1;
}

/* Takes what is there without waiting. */
static void outlet_read(struct outlet *outlet)
{
    char bytes[READ_STEP];

    for (int i = 0; i < READS && outlet->fd >= 0; i++) {
        ssize_t n = read(outlet->fd, bytes, sizeof(bytes));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            outlet_close(outlet);
            return;
        }
        size_t room = outlet->text.max - outlet->text.len;
        outlet->cut |= (size_t)n > room;
        outlet->cut |= buf_add(&outlet->text, bytes, MIN((size_t)n, room)) < 0;
    }
}

static void on_output(struct loop_fd *ready, unsigned events, void *user)
{
    outlet_read(user);
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct child *child = container_of((uv_process_t *)handle, struct child, process);

    buf_done(&child->out.text);
    buf_done(&child->err.text);
    mem_free(child);
}

static void close_leftover(struct loop_leftover *leftover)
{
    struct child *child = container_of(leftover, struct child, leftover);

    uv_close((uv_handle_t *)&child->process, on_closed);
}

static void on_exit_status(uv_process_t *process, int64_t status, int signum)
{
    struct child *child = container_of(process, struct child, process);

    loop_count_callback(child->loop);
    child->over = true;
    timer_stop(&child->deadline);
    if (child->freed) {
        loop_forget(&child->leftover);
        uv_close((uv_handle_t *)process, on_closed);
        return;
    }
    outlet_read(&child->out);
    outlet_read(&child->err);
    outlet_close(&child->out);
    outlet_close(&child->err);
    struct child_exit exit = {
        .status = (int)status,
        .signum = signum,
        .timed_out = child->timed_out,
        .cut = child->out.cut || child->err.cut,
        .out = buf_span(&child->out.text),
        .err = buf_span(&child->err.text),
    };
    child->fn(child, &exit, child->user);
}

static void on_grace_over(struct timer *timer, void *user)
{
    child_signal(user, SIGKILL);
}

static void on_deadline(struct timer *timer, void *user)
{
    struct child *child = user;

    child->timed_out = true;
    child_signal(child, SIGTERM);
    timer_start(timer, child->loop, child->grace_ms, on_grace_over, child);
}

pid_t child_pid(const struct child *child)
{
    return child->over ? 0 : child->process.pid;
}

void child_signal(struct child *child, int signum)
{
    /* The child is the leader of its session, so its group has its number. */
    if (!child->over && kill(-child->process.pid, signum) < 0)
        kill(child->process.pid, signum);
}

void child_free(struct child *child)
{
    if (!child)
        return;
    timer_stop(&child->deadline);
    outlet_close(&child->out);
    outlet_close(&child->err);
    child->freed = true;
    if (child->over) {
        uv_close((uv_handle_t *)&child->process, on_closed);
        return;
    }
    child_signal(child, SIGKILL);
    child->leftover.close = close_leftover;
    loop_remember(child->loop, &child->leftover);
}

/* ---- the beginning ---- */

/* The input as a file without a name: no writing, no waiting, no SIGPIPE. */
static int open_input(struct span input, int *ret, struct err *err)
{
    auto_close int fd = input.len == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                                       : memfd_create("stdin", MFD_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno, "cannot prepare the input: %s", strerror(errno));
    for (size_t at = 0; at < input.len;) {
        ssize_t n = pwrite(fd, input.ptr + at, input.len - at, (off_t)at);
        if (n < 0)
            return err_set(err, errno, "cannot prepare the input: %s", strerror(errno));
        at += (size_t)n;
    }
    *ret = fd;
    fd = -1;
    return 0;
}

/* Our end does not block; the child's end does, as a program expects of its stdout. */
static int outlet_open(struct child *child, struct outlet *outlet, size_t max, int *ret_childs,
                       struct err *err)
{
    int ends[2];

    outlet->text = BUF_MAX(max);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, errno, "cannot make a pipe: %s", strerror(errno));
    outlet->fd = ends[0];
    *ret_childs = ends[1];
    return loop_fd_new(child->loop, outlet->fd, LOOP_READABLE, on_output, outlet, &outlet->ready,
                       err);
}

static int spawn(struct child *child, const struct child_spec *spec, const int stdio[3],
                 struct err *err)
{
    uv_stdio_container_t containers[3];

    for (int i = 0; i < 3; i++) {
        containers[i].flags = UV_INHERIT_FD;
        containers[i].data.fd = stdio[i];
    }
    uv_process_options_t options = {
        .file = spec->argv[0],
        .args = (char **)spec->argv,
        .env = (char **)spec->env,
        .cwd = spec->dir,
        .flags = UV_PROCESS_DETACHED,
        .exit_cb = on_exit_status,
        .stdio = containers,
        .stdio_count = 3,
    };
    int r = uv_spawn(loop_uv(child->loop), &child->process, &options);
    return r < 0 ? err_set(err, -r, "cannot run %s: %s", spec->argv[0], uv_strerror(r)) : 0;
}

static int prepare_and_spawn(struct child *child, const struct child_spec *spec, struct err *err)
{
    size_t max = spec->output_max ? spec->output_max : DEFAULT_OUTPUT_MAX;
    auto_close int input = -1, out = -1, error = -1;

    int r = spec->input.len > INPUT_MAX ? err_set(err, E2BIG, "the input is too large")
                                        : open_input(spec->input, &input, err);
    if (r == 0)
        r = outlet_open(child, &child->out, max, &out, err);
    if (r == 0)
        r = outlet_open(child, &child->err, max, &error, err);
    return r < 0 ? r : spawn(child, spec, (const int[3]){ input, out, error }, err);
}

int child_spawn(struct loop *loop, const struct child_spec *spec, child_fn *fn, void *user,
                struct child **ret, struct err *err)
{
    struct child *child = mem_alloc(sizeof(*child));

    if (!child)
        return err_no_memory(err);
    child->loop = loop;
    child->fn = fn;
    child->user = user;
    child->out.fd = child->err.fd = -1;
    child->grace_ms = spec->grace_ms ? spec->grace_ms : DEFAULT_GRACE_MS;
    int r = prepare_and_spawn(child, spec, err);
    if (r < 0) {
        outlet_close(&child->out);
        outlet_close(&child->err);
        if (child->process.loop)
            uv_close((uv_handle_t *)&child->process, on_closed);
        else
            on_closed((uv_handle_t *)&child->process);
        return r;
    }
    if (spec->deadline_ms > 0)
        timer_start(&child->deadline, loop, spec->deadline_ms, on_deadline, child);
    *ret = child;
    return 0;
}
