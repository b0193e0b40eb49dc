#include "mps/mps_control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/mem.h"
#include "net/child.h"

struct mps_control {
    struct child *child; /* owned */
    mps_control_fn *fn;
    void *user;
};

static int explain_exit(const struct child_exit *exit, struct err *err)
{
    static const char what[] = "failed to send command to MPS daemon";
    struct span said = span_trim(exit->err.len ? exit->err : exit->out);

    if (exit->timed_out)
        return err_set(err, ETIMEDOUT, "%s: no answer within %d s", what,
                       MPS_CONTROL_DEADLINE_MS / 1000);
    if (exit->signum)
        return err_set(err, EIO, "%s: signal: %s", what, strsignal(exit->signum));
    if (said.len == 0)
        return err_set(err, EIO, "%s: exit status %d", what, exit->status);
    return err_set(err, EIO, "%s: exit status %d (" SPAN_FMT ")", what, exit->status,
                   SPAN_ARG(said));
}

static void on_exit_of_child(struct child *child, const struct child_exit *exit, void *user)
{
    struct mps_control *control = user;
    struct err err = {};
    int r = 0;

    if (exit->timed_out || exit->signum || exit->status != 0)
        r = explain_exit(exit, &err);
    control->fn(control->user, r, r < 0 ? (struct span){} : span_trim(exit->out), &err);
}

/* In our PATH, as Go looks: the child's environment has none. */
static const char *find_program(struct arena *arena)
{
    const char *path = getenv("PATH");
    struct span rest = span_of(path ? path : "/usr/bin:/bin"), dir;
    bool more = true;

    while (span_split(&rest, ':', &more, &dir)) {
        const char *file = arena_printf(arena, SPAN_FMT "/" MPS_CONTROL_PROGRAM, SPAN_ARG(dir));

        if (file && dir.len > 0 && access(file, X_OK) == 0)
            return file;
    }
    return NULL;
}

static int start(struct loop *loop, const char *const *env, const char *command,
                 struct mps_control *control, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(256));
    const char *argv[] = { find_program(&arena), NULL };
    const struct child_spec spec = {
        .argv = argv,
        .env = env,
        .input = span_of(command),
        .output_max = MPS_CONTROL_OUTPUT_MAX,
        .deadline_ms = MPS_CONTROL_DEADLINE_MS,
    };

    if (!argv[0])
        return err_set(err, ENOENT,
                       "failed to start NVIDIA MPS command: exec: \"" MPS_CONTROL_PROGRAM
                       "\": executable file not found in $PATH");
    int r = child_spawn(loop, &spec, on_exit_of_child, control, &control->child, err);
    return r < 0 ? err_wrap(err, r, "failed to start NVIDIA MPS command") : 0;
}

int mps_control_send(struct loop *loop, const char *pipe_dir, const char *log_dir,
                     const char *command, mps_control_fn *fn, void *user, struct mps_control **ret,
                     struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(KIB(64));
    const char *env[] = { arena_printf(&arena, "CUDA_MPS_PIPE_DIRECTORY=%s", pipe_dir),
                          arena_printf(&arena, "CUDA_MPS_LOG_DIRECTORY=%s", log_dir), NULL };
    struct mps_control *control = mem_alloc(sizeof(*control));

    if (!control || !env[0] || !env[1]) {
        mem_free(control);
        return err_no_memory(err);
    }
    control->fn = fn;
    control->user = user;
    int r = start(loop, env, command, control, err);
    if (r < 0) {
        mem_free(control);
        return r;
    }
    *ret = control;
    return 0;
}

void mps_control_free(struct mps_control *control)
{
    if (!control)
        return;
    child_free(control->child);
    mem_free(control);
}
