#include "cli/mig.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/node.h"
#include "cli/selfpath.h"
#include "gpu/mig_journal.h"
#include "gpu/mig_look.h"
#include "kubelet/pod_resources.h"
#include "net/worker.h"

enum { MAX_CHECKPOINT_BYTES = 4 << 20 };

/* A look runs on a thread, as a GPU that fell off the bus may never answer. */
struct mig_site_look {
    struct mig_site_look *next;
    struct arena arena; /* owns the node */
    struct nvml *nvml;  /* a reference */
    struct mig_look_options options;
    struct mig_node *node;
    int r;
    struct err err;
};

static void look_free(void *arg)
{
    struct mig_site_look *look = arg;

    base_close(&look->options.root);
    nvml_unref(look->nvml);
    arena_done(&look->arena);
    mem_free(look);
}

void mig_site_done(struct mig_site *site)
{
    for (struct mig_site_look *look = site->looks, *next; look; look = next) {
        next = look->next;
        look_free(look);
    }
    if (site->nvml && !site->hangs)
        nvml_shutdown(site->nvml);
    nvml_unref(site->nvml);
    base_close(&site->root_fd);
    arena_done(&site->arena);
}

/* ---- where it is ---- */

static int simulated_root(struct mig_site *site, const char **ret, struct err *err)
{
    const char *dir = getenv("TRANCHE_SIM");

    if (!dir || !*dir)
        return 0;
    char *root = arena_printf(&site->arena, "%s/root", dir);
    if (!root)
        return err_no_memory(err);
    /* Under `tranche sim run` the node's files lie in their usual places. */
    if (file_exists(root))
        *ret = root;
    site->simulated = true;
    return 0;
}

int mig_site_place(struct mig_site *site, const char *root, struct err *err)
{
    size_t len;

    int r = root ? 0 : simulated_root(site, &root, err);
    if (r < 0)
        return r;
    root = root ? root : "";
    len = strlen(root);
    while (len > 0 && root[len - 1] == '/')
        len--;
    site->root = arena_printf(&site->arena, "%.*s", (int)len, root);
    if (!site->root)
        return err_no_memory(err);
    site->state_dir = arena_printf(&site->arena, "%s" MIG_STATE_DIR, site->root);
    if (!site->state_dir)
        return err_no_memory(err);
    site->root_fd = open(*site->root ? site->root : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (site->root_fd < 0)
        return err_set(err, errno, "--root %s: %s", root, strerror(errno));
    return 0;
}

int mig_site_start(struct mig_site *site, struct err *err)
{
    auto_(nvml_unrefp) struct nvml *nvml = NULL;

    int r = nvml_open(*site->root ? site->root : NULL, &nvml, err);
    if (r < 0)
        return r;
    site->library = arena_strdup(&site->arena, nvml_path(nvml));
    if (!site->library)
        return err_no_memory(err);
    r = nvml_init(nvml, err);
    if (r == 0)
        site->nvml = steal(nvml);
    return r;
}

int mig_site_open(struct mig_site *site, const char *root, struct err *err)
{
    struct err why = {};

    int r = mig_site_place(site, root, err);
    if (r < 0)
        return r;
    r = mig_site_start(site, &why);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r < 0 && !site->library)
        return node_no_driver(&why, err);
    return r < 0 ? node_driver_fails(site->library, r, &why, err) : 0;
}

/* ---- which pod holds what ---- */

struct question {
    struct mig_site *site;
    struct loop *loop;
    bool answered;
    int r;
    struct err err;
};

static bool hold(struct mig_site *site, const struct pod *pod, const char *id)
{
    const char *replica = strstr(id, "::");
    char *uuid =
        arena_printf(&site->arena, "%.*s", replica ? (int)(replica - id) : (int)strlen(id), id);
    char *holder = arena_printf(&site->arena, "pod %s/%s", pod->namespace, pod->name);

    if (!uuid || !holder)
        return false;
    text_make_harmless(holder);
    (void)mig_node_hold(site->node, uuid, holder);
    return true;
}

static void on_pods(void *user, int r, const struct pod_list *pods, const struct err *err)
{
    struct question *question = user;

    question->answered = true;
    question->r = r;
    if (r < 0)
        question->err = *err;
    for (size_t i = 0; r == 0 && i < pods->n; i++)
        for (size_t c = 0; c < pods->items[i].n_containers; c++) {
            const struct pod_container *container = &pods->items[i].containers[c];

            for (size_t d = 0; d < container->n_devices; d++)
                for (size_t k = 0; k < container->devices[d].ids.n; k++)
                    if (!hold(question->site, &pods->items[i], container->devices[d].ids.items[k]))
                        question->r = err_no_memory(&question->err);
        }
    loop_stop(question->loop);
}

static void on_deadline(struct timer *timer, void *user)
{
    loop_stop(((struct question *)user)->loop);
}

static int ask_kubelet(struct mig_site *site, const char *path, struct err *err)
{
    auto_(loop_freep) struct loop *loop = NULL;
    auto_(pod_resources_freep) struct pod_resources *client = NULL;
    struct question question = { .site = site };
    struct timer deadline = {};

    int r = loop_new(&loop, err);
    question.loop = loop;
    if (r == 0)
        r = pod_resources_new(loop, path, &client, err);
    if (r == 0)
        r = pod_resources_list(client, on_pods, &question, err);
    if (r < 0)
        return r;
    timer_start(&deadline, loop, MIG_PODS_DEADLINE_MS, on_deadline, &question);
    loop_run(loop);
    timer_stop(&deadline);
    if (!question.answered)
        return err_set(err, ETIMEDOUT, "no answer within %d s", MIG_PODS_DEADLINE_MS / 1000);
    if (question.r < 0)
        *err = question.err;
    return question.r;
}

static int look_at_pods(struct mig_site *site, struct err *err)
{
    char *path = arena_printf(&site->arena, "%s" POD_RESOURCES_SOCKET, site->root);
    struct err why = {};
    struct stat status;

    if (!path)
        return err_no_memory(err);
    site->pods = MIG_PODS_NO_KUBELET;
    if (stat(path, &status) < 0 && (errno == ENOENT || errno == ENOTDIR))
        return 0;
    int r = ask_kubelet(site, path, &why);
    site->pods = r < 0 ? MIG_PODS_UNKNOWN : MIG_PODS_KNOWN;
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r < 0 && !(site->pods_problem = arena_printf(&site->arena, "%s: %s", path, why.text)))
        return err_no_memory(err);
    return 0;
}

/* ---- looking ---- */

struct wait {
    struct loop *loop;
    int r;
};

static void look_work(void *arg)
{
    struct mig_site_look *look = arg;

    look->r = mig_look(look->nvml, &look->options, &look->arena, &look->node, &look->err);
}

static void look_done(void *user, int r)
{
    struct wait *wait = user;

    wait->r = r;
    loop_stop(wait->loop);
}

static int look_new(struct mig_site *site, struct mig_site_look **ret, struct err *err)
{
    int root = fcntl(site->root_fd, F_DUPFD_CLOEXEC, 0);

    if (root < 0)
        return err_set(err, errno, "cannot keep %s open: %s", site->root, strerror(errno));
    struct mig_site_look *look = mem_alloc(sizeof(*look));
    if (!look) {
        close(root);
        return err_no_memory(err);
    }
    look->arena = ARENA_MAX(MIG_SITE_LOOK_BYTES);
    look->nvml = nvml_ref(site->nvml);
    look->options = (struct mig_look_options){ .root = root, .holders = true };
    *ret = look;
    return 0;
}

/* The look is the worker's when this fails in time. */
static int look_on_thread(struct mig_site_look *look, struct err *err)
{
    auto_(loop_freep) struct loop *loop = NULL;
    auto_(worker_freep) struct worker *worker = NULL;
    struct wait wait = {};

    int r = loop_new(&loop, err);
    wait.loop = loop;
    if (r == 0)
        r = worker_new(loop, "mig-look", &worker, err);
    if (r == 0)
        r = worker_submit(worker, look_work, look, look_done, &wait, look_free,
                          MIG_LOOK_DEADLINE_MS, err);
    if (r < 0) {
        look_free(look);
        return r;
    }
    loop_run(loop);
    if (wait.r < 0)
        return err_set(err, ETIMEDOUT,
                       "NVML has not answered for %d s; `tranche get gpus` says which GPU hangs",
                       MIG_LOOK_DEADLINE_MS / 1000);
    return 0;
}

int mig_site_look(struct mig_site *site, bool pods, struct err *err)
{
    struct mig_site_look *look;

    int r = look_new(site, &look, err);
    if (r == 0)
        r = look_on_thread(look, err);
    if (r < 0) {
        site->hangs = r == -ETIMEDOUT;
        return r;
    }
    look->next = site->looks;
    site->looks = look;
    if (look->r < 0) {
        if (err)
            *err = look->err;
        return look->r;
    }
    site->node = look->node;
    return pods ? look_at_pods(site, err) : 0;
}

/* ---- reset ---- */

/* The simulated node's stand-in asks this program; it must not be the machine's own. */
static int stand_in(struct mig_site *site, const char **ret, struct err *err)
{
    char self[PATH_MAX];

    if (*site->root) {
        *ret = arena_printf(&site->arena, "%s/usr/bin/nvidia-smi", site->root);
        if (!*ret)
            return err_no_memory(err);
    }
    int r = self_path(self, sizeof(self), err);
    if (r == 0 && setenv("TRANCHE_SIM_PROGRAM", self, 0) < 0)
        r = err_no_memory(err);
    return r;
}

/* As nvidia-smi is told them: `0000:1b:00.0,0000:43:00.0`. */
static char *join_bus_ids(struct arena *arena, const char *const *bus_ids, size_t n)
{
    char *text = arena_strdup(arena, "");

    for (size_t i = 0; text && i < n; i++)
        text = arena_printf(arena, "%s%s%s", text, i > 0 ? "," : "", bus_ids[i]);
    for (char *c = text; c && *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return text;
}

static struct span last_line(struct span text)
{
    struct span rest = text, line, last = {};
    bool more = true;

    while (span_split(&rest, '\n', &more, &line))
        if (span_trim(line).len > 0)
            last = span_trim(line);
    return last;
}

int mig_site_reset(void *user, const char *const *bus_ids, size_t n, struct err *err)
{
    struct mig_site *site = user;
    const char *program = "nvidia-smi";
    const char *ids = join_bus_ids(&site->arena, bus_ids, n);
    struct child_exit end = {};
    char words[64];

    if (!ids)
        return err_no_memory(err);
    int r = site->simulated ? stand_in(site, &program, err) : 0;
    if (r < 0)
        return r;
    const char *argv[] = { program, "-r", "-i", ids, NULL };
    const struct child_spec spec = { .argv = argv, .deadline_ms = MIG_RESET_DEADLINE_MS };
    r = mig_run_child(&spec, &site->arena, &end, err);
    if (r < 0)
        return r;
    if (end.status == 0 && end.signum == 0)
        return 0;
    site->reset_status = end.status ? end.status : 128 + end.signum;
    struct span said = last_line(end.err.len ? end.err : end.out);
    return err_set(err, EIO, "nvidia-smi -r -i %s: %s%s%.*s", ids, mig_exit_words(&end, words),
                   said.len ? ": " : "", (int)MIN(said.len, 300u), said.len ? said.ptr : "");
}

/* ---- files ---- */

static bool has_journal(const struct mig_site *site)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/" MIG_JOURNAL_FILE, site->state_dir);

    return n > 0 && (size_t)n < sizeof(path) && file_exists(path);
}

int mig_site_recover(struct mig_site *site, const struct mig_apply_options *options,
                     struct mig_outcome *ret, struct err *err)
{
    int r = has_journal(site) ? mig_site_look(site, false, err) : 0;

    return r == -ETIMEDOUT ? r : mig_recover(site->nvml, options, &site->arena, ret, err);
}

void mig_warn_of_change(const struct mig_site *site)
{
    if (has_journal(site))
        fputs("note: a change is under way or was interrupted; `tranche mig apply` or `recover` "
              "finishes it\n",
              stderr);
}

int mig_site_readable(struct mig_site *site, const bool *chosen, const struct mig_node **ret,
                      struct err *err)
{
    struct mig_node *node = arena_new(&site->arena, struct mig_node);

    if (!node)
        return err_no_memory(err);
    node->driver_version = site->node->driver_version;
    for (size_t i = 0; i < site->node->n_gpus; i++) {
        if (site->node->gpus[i].problem || (chosen && !chosen[i]))
            continue;
        struct mig_gpu *gpu = arena_push(&site->arena, &node->gpus, &node->n_gpus);
        if (!gpu)
            return err_no_memory(err);
        *gpu = site->node->gpus[i];
    }
    *ret = node;
    return 0;
}

void mig_site_forgive_holders(struct mig_site *site, const struct mig_wish *wishes)
{
    for (size_t i = 0; i < site->node->n_gpus; i++)
        if (wishes[i].kind == MIG_WISH_MODE && wishes[i].enabled)
            site->node->gpus[i].holder = NULL;
}

/* What is there already need not wait for the disk once more. */
static bool file_says(struct mig_site *site, const char *path, struct span text)
{
    struct span old;

    return file_read(AT_FDCWD, path, MAX_CHECKPOINT_BYTES, &site->arena, &old, NULL) == 0 &&
           span_equal(old, text);
}

/* A GPU that cannot be read is left out, and left alone by whoever restores. */
int mig_site_remember(struct mig_site *site, struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(MAX_CHECKPOINT_BYTES);
    char *path = arena_printf(&site->arena, "%s/" MIG_LAST_CHECKPOINT, site->state_dir);

    const struct mig_node *node;

    int r = path ? mig_site_readable(site, NULL, &node, err) : err_no_memory(err);
    if (r == 0)
        r = mig_checkpoint_write(node, &text, err);
    if (r < 0 || file_says(site, path, buf_span(&text)))
        return r;
    r = file_make_dirs(site->state_dir, 0700, err);
    return r < 0 ? r : file_replace(AT_FDCWD, path, buf_span(&text), 0600, err);
}

int mig_file_read(struct mig_site *site, const char *path, size_t max, struct span *ret,
                  struct err *err)
{
    auto_(buf_done) struct buf text = BUF_MAX(max);

    if (!text_equal(path, "-"))
        return file_read(AT_FDCWD, path, max, &site->arena, ret, err);
    int r = site->input.ptr ? 0 : buf_read_all(&text, STDIN_FILENO, err);
    if (r < 0)
        return err_wrap(err, r, "standard input");
    if (!site->input.ptr)
        site->input = (struct span){ arena_spandup(&site->arena, buf_span(&text)), text.len };
    *ret = site->input;
    return ret->ptr ? 0 : err_no_memory(err);
}

/* Root must not put a file where a device is. */
static int write_into(const char *path, struct span text, struct err *err)
{
    FILE *to = fopen(path, "we");

    if (!to)
        return err_set(err, errno, "%s: cannot open: %s", path, strerror(errno));
    errno = 0;
    bool written = fwrite(text.ptr, 1, text.len, to) == text.len;
    if (fclose(to) == 0 && written)
        return 0;
    int code = errno ? errno : EIO;
    return err_set(err, code, "%s: cannot write: %s", path, strerror(code));
}

int mig_file_write(const char *path, struct span text, unsigned mode, struct err *err)
{
    char file[PATH_MAX];
    struct stat status;

    if (stat(path, &status) < 0)
        return file_replace(AT_FDCWD, path, text, mode, err);
    if (!S_ISREG(status.st_mode) || !realpath(path, file))
        return write_into(path, text, err);
    return file_replace(AT_FDCWD, file, text, mode, err);
}
