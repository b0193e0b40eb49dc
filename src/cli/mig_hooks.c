/*
 * Children of the partition verbs: hooks (spec/mig §4.7) and nvidia-smi.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/mig.h"
#include "share/go_text.h"

enum { OUTPUT_MAX_BYTES = 1 << 20, MAX_VARIABLES = 1024 };

struct wait {
    struct loop *loop;
    struct child *child;
    struct arena *arena;
    struct child_exit *exit;
    bool over, failed;
};

static void keep(struct wait *wait, struct span *text)
{
    text->ptr = arena_spandup(wait->arena, *text);
    wait->failed = wait->failed || !text->ptr;
}

static void on_exit_of(struct child *child, const struct child_exit *end, void *user)
{
    struct wait *wait = user;

    *wait->exit = *end;
    keep(wait, &wait->exit->out);
    keep(wait, &wait->exit->err);
    wait->over = true;
    loop_stop(wait->loop);
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

void mig_hold_signals(bool hold)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        sigaddset(&set, signals[i]);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    signal(SIGPIPE, hold ? SIG_IGN : SIG_DFL);
}

/* The child is in a session of its own: what the terminal sends to us it would never hear of. */
static void pass_on(int signum, void *user)
{
    child_signal(((struct wait *)user)->child, signum);
}

int mig_run_child(const struct child_spec *spec, struct arena *arena, struct child_exit *ret,
                  struct err *err)
{
    auto_(loop_freep) struct loop *loop = NULL;
    auto_(child_freep) struct child *child = NULL;
    struct wait wait = { .arena = arena, .exit = ret };

    int r = loop_new(&loop, err);
    wait.loop = loop;
    if (r == 0)
        r = child_spawn(loop, spec, on_exit_of, &wait, &child, err);
    wait.child = child;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(signals); i++)
        r = loop_on_signal(loop, signals[i], pass_on, &wait, err);
    if (r < 0)
        return r;
    while (!wait.over)
        loop_run(loop);
    return wait.failed ? err_no_memory(err) : 0;
}

const char *mig_exit_words(const struct child_exit *end, char text[static 64])
{
    const char *name = end->signum ? sigdescr_np(end->signum) : NULL;

    if (!end->signum) {
        snprintf(text, 64, "exit status %d", end->status);
        return text;
    }
    snprintf(text, 64, "signal: %s", name ? name : "unknown");
    if (name && text[8] >= 'A' && text[8] <= 'Z')
        text[8] = (char)(text[8] + 'a' - 'A');
    return text;
}

/* ---- hooks ---- */

/* A command without a slash is looked for in our PATH, not in that of the hook's variables. NULL:
 * it is nowhere. */
static const char *find_program(const char *command, struct arena *arena)
{
    const char *path = getenv("PATH");
    struct span rest = span_of(path), part;
    bool more = path != NULL;

    if (strchr(command, '/'))
        return command;
    while (span_split(&rest, ':', &more, &part)) {
        char *file =
            arena_printf(arena, SPAN_FMT "%s%s", SPAN_ARG(part), part.len ? "/" : "", command);
        struct stat status;

        if (file && part.len && stat(file, &status) == 0 && S_ISREG(status.st_mode) &&
            access(file, X_OK) == 0)
            return file;
    }
    return NULL;
}

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");

    return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* The hook's own variables that no flag has, then the flags'. */
static int merge(const char *const *own, const char *const *flags,
                 const char *ret[static MAX_VARIABLES + 1], struct err *err)
{
    size_t n = 0;

    for (size_t i = 0; own && own[i]; i++) {
        bool covered = false;

        for (size_t k = 0; flags[k]; k++)
            covered = covered || same_name(own[i], flags[k]);
        if (covered)
            continue;
        if (n == MAX_VARIABLES)
            return err_set(err, E2BIG, "more than %d variables", MAX_VARIABLES);
        ret[n++] = own[i];
    }
    for (size_t k = 0; flags[k] && n < MAX_VARIABLES; k++)
        ret[n++] = flags[k];
    ret[n] = NULL;
    return 0;
}

static int make_argv(const struct mig_hook *hook, const char *program, struct arena *arena,
                     const char *const **ret, struct err *err)
{
    size_t n = 0;

    while (hook->args && hook->args[n])
        n++;
    const char **argv = arena_new_array(arena, const char *, n + 2);
    if (!argv)
        return err_no_memory(err);
    argv[0] = program;
    for (size_t i = 0; i < n; i++)
        argv[i + 1] = hook->args[i];
    *ret = argv;
    return 0;
}

static int run_one(const struct mig_hook *hook, const char *const *variables, FILE *show,
                   struct arena *arena, struct err *err)
{
    const char *env[MAX_VARIABLES + 1];
    const char *const *argv;
    const char *program = find_program(hook->command, arena);
    struct child_exit end = {};
    struct stat status;
    char words[128];

    if (!program)
        return err_set(err, ENOENT, "exec: \"%s\": executable file not found in $PATH",
                       hook->command);
    int r = merge(hook->envs, variables, env, err);
    if (r == 0)
        r = make_argv(hook, program, arena, &argv, err);
    if (r < 0)
        return r;
    const struct child_spec spec = {
        .argv = argv, .env = env, .dir = hook->workdir, .output_max = OUTPUT_MAX_BYTES
    };
    if (hook->workdir && stat(hook->workdir, &status) < 0)
        return err_set(err, errno, "chdir %s: %s", hook->workdir, go_error(errno, words));
    r = mig_run_child(&spec, arena, &end, NULL);
    if (r < 0)
        return err_set(err, -r, "fork/exec %s: %s", program, go_error(-r, words));
    if (show) {
        fwrite(end.out.ptr, 1, end.out.len, show);
        fflush(show);
        fwrite(end.err.ptr, 1, end.err.len, stderr);
    }
    if (end.status == 0 && end.signum == 0)
        return 0;
    return err_set(err, ECHILD, "%s", mig_exit_words(&end, words));
}

int mig_hooks_run(const struct mig_hooks *hooks, enum mig_hook_point point,
                  const char *const *variables, FILE *show, struct arena *arena, struct err *err)
{
    for (size_t i = 0; hooks && i < hooks->n[point]; i++) {
        int r = run_one(&hooks->hooks[point][i], variables, show, arena, err);
        if (r < 0)
            return err_wrap(err, r, "error running %s hook", mig_hook_name(point));
    }
    return 0;
}
