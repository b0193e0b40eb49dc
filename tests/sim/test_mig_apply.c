/*
 * Changes of MIG on simulated GPUs: what is wanted comes true, or everything is as it was; killed
 * or refused at any step, in any direction.
 */
#include <errno.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "mig_world.h"

#include "base/mem.h"
#include "gpu/mig_apply.h"
#include "gpu/mig_journal.h"
#include "gpu/nvml_table.h"

/* ---- one change, from look to outcome ---- */

struct bench {
    struct world *world;
    char dir[64], state_dir[96]; /* in memory where there is room: it is synced hundreds of times */
    struct mig_apply_options options;
    struct arena arena;
    struct mig_node *node;
    struct mig_gpu_plan plans[16];
    struct mig_layout layouts[16];
    size_t n_plans;
    struct mig_outcome outcome;
    struct err err;
};

static struct bench *bench_new(const char *gpus)
{
    struct bench *bench = calloc(1, sizeof(*bench));

    bench->world = world_new(gpus);
    strcpy(bench->dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/mig-XXXXXX" : "/tmp/mig-XXXXXX");
    assert_non_null(mkdtemp(bench->dir));
    snprintf(bench->state_dir, sizeof(bench->state_dir), "%s/var/mig", bench->dir);
    bench->options = (struct mig_apply_options){ .state_dir = bench->state_dir, .root = -1 };
    bench->arena = ARENA_MAX(MIB(32));
    assert_int_equal(nvml_init(bench->world->nvml, NULL), 0);
    return bench;
}

static void bench_free(struct bench **bench)
{
    arena_done(&(*bench)->arena);
    file_remove_tree((*bench)->dir, NULL);
    nvml_shutdown((*bench)->world->nvml);
    world_free((*bench)->world);
    free(*bench);
}

#define auto_bench auto_(bench_free) struct bench *

static void forget(struct bench *bench)
{
    arena_done(&bench->arena);
    bench->arena = ARENA_MAX(MIB(32));
    bench->node = NULL;
    bench->n_plans = 0;
    bench->err = (struct err){};
}

/* Wishes in the order of the GPUs; NULL: this one is not in the plan. */
static void plan(struct bench *bench, const char *const *wishes, size_t n)
{
    forget(bench);
    bench->node = world_look(bench->world, &bench->arena);
    for (size_t i = 0; i < n; i++) {
        struct mig_layout *layout = &bench->layouts[bench->n_plans];
        const struct mig_wish wish = { .kind = MIG_WISH_LAYOUT, .layout = layout };

        if (!wishes[i])
            continue;
        layout_parse(&bench->node->gpus[i], wishes[i], layout);
        if (mig_plan_gpu(&bench->node->gpus[i], &wish, true, &bench->arena,
                         &bench->plans[bench->n_plans++], &bench->err) < 0)
            fail_msg("%s", bench->err.text);
    }
}

static int apply(struct bench *bench)
{
    return mig_apply(bench->world->nvml, bench->plans, bench->n_plans, &bench->options,
                     &bench->arena, &bench->outcome, &bench->err);
}

static int recover(struct bench *bench)
{
    forget(bench);
    return mig_recover(bench->world->nvml, &bench->options, &bench->arena, &bench->outcome,
                       &bench->err);
}

#define PLAN(bench, ...)                                                                           \
    plan(bench, (const char *const[]){ __VA_ARGS__ },                                              \
         ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static void set_all(struct bench *bench, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        world_set(bench->world, (uint32_t)i, texts[i]);
}

#define SET(bench, ...)                                                                            \
    set_all(bench, (const char *const[]){ __VA_ARGS__ },                                           \
            ARRAY_LEN(((const char *const[]){ __VA_ARGS__ })))

static void assert_picture(struct bench *bench, const char *wanted)
{
    auto_(buf_done) struct buf now = BUF_MAX(KIB(16));

    world_pictures(bench->world, false, &now);
    assert_string_equal(buf_text(&now), wanted);
}

static bool state_has(struct bench *bench, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", bench->state_dir, name);
    return file_exists(path);
}

static void write_state(struct bench *bench, const char *name, struct span text)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", bench->state_dir, name);
    assert_int_equal(file_make_dirs(bench->state_dir, 0700, NULL), 0);
    assert_int_equal(file_replace(AT_FDCWD, path, text, 0600, NULL), 0);
}

/* ---- what is wanted comes true ---- */

static const struct mig_change *change_of(struct bench *bench, const char *old_uuid)
{
    for (size_t i = 0; i < bench->outcome.n_changes; i++)
        if (bench->outcome.changes[i].old_uuid &&
            text_equal(bench->outcome.changes[i].old_uuid, old_uuid))
            return &bench->outcome.changes[i];
    return NULL;
}

/* Each MIG device that was there and is not any more is told of, and each new one; no other. */
static void check_changes(struct bench *bench)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    struct mig_node *now = world_look(bench->world, &arena);
    size_t made = 0, gone = 0, told_made = 0, told_gone = 0;

    for (size_t g = 0; g < now->n_gpus; g++) {
        auto_(buf_done) struct buf picture = BUF_MAX(KIB(4));
        world_picture(bench->world, now->gpus[g].index, true, &picture);
        const struct mig_gpu *old = &bench->node->gpus[g];
        for (size_t i = 0; i < old->n_gis; i++)
            for (size_t j = 0; j < old->gis[i].n_cis; j++)
                if (!strstr(buf_text(&picture), old->gis[i].cis[j].uuid)) {
                    assert_non_null(change_of(bench, old->gis[i].cis[j].uuid));
                    gone++;
                }
        for (size_t i = 0; i < now->gpus[g].n_gis; i++)
            made += now->gpus[g].gis[i].n_cis;
        for (size_t i = 0; i < old->n_gis; i++)
            made -= old->gis[i].n_cis;
    }
    made += gone;
    for (size_t i = 0; i < bench->outcome.n_changes; i++) {
        const struct mig_change *change = &bench->outcome.changes[i];
        struct sim_mig_device device;

        assert_true(change->old_uuid || change->new_uuid);
        told_gone += change->old_uuid != NULL;
        told_made += change->new_uuid != NULL;
        if (!change->new_uuid)
            continue;
        char name[32];
        assert_int_equal(sim_mig_device_by_uuid(bench->world->sim, change->new_uuid, &device), 0);
        sim_mig_device_profile(&device, name);
        assert_string_equal(change->profile, name);
        assert_int_equal(change->placement.start, device.gi->start);
        assert_int_equal(change->gpu, device.gpu - bench->world->sim->gpus);
    }
    assert_int_equal(told_gone, gone);
    assert_int_equal(told_made, made);
}

/* What is imagined is what is there. */
static void check_imagined(struct bench *bench)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    struct mig_node *now = world_look(bench->world, &arena);

    if (mig_apply_imagine(bench->node, bench->plans, bench->n_plans, &bench->outcome, &bench->err) <
        0)
        fail_msg("%s", bench->err.text);
    for (size_t g = 0; g < now->n_gpus; g++) {
        const struct mig_gpu *real = &now->gpus[g], *imagined = &bench->node->gpus[g];
        struct mig_layout a, b;

        mig_layout_of(real, &a);
        mig_layout_of(imagined, &b);
        assert_true(mig_layout_equal(&a, &b));
        for (size_t i = 0; i < real->n_gis; i++)
            for (size_t j = 0; j < real->gis[i].n_cis; j++)
                assert_string_equal(imagined->gis[i].cis[j].uuid, real->gis[i].cis[j].uuid);
    }
}

static void layouts_come_true(void **state)
{
    static const struct {
        const char *gpu, *from, *to;
    } rows[] = {
        { "h100-80gb", "off", "0@0 0@1 0@2 0@3 0@4 0@5 0@6" },
        { "h100-80gb", "0@0 0@1 0@2 0@3 0@4 0@5 0@6", "off" },
        { "h100-80gb", "0@0 0@1 0@2 0@3 0@4 0@5 0@6", "1@0 0@2 0@3 2@4" }, /* T3 */
        { "h100-80gb", "1@0 0@2 0@3 2@4", "4@0" },
        { "h100-80gb", "", "2@0/0,0,0 2@4/1,0" },
        { "h100-80gb", "2@0/0,0,0", "2@0" },
        { "h100-80gb", "2@0/-", "2@0" },
        { "h100-80gb", "0@0/- 0@1/- 0@2/-", "0@0 0@1 0@2 0@3 0@4 0@5 0@6" }, /* T9 */
        { "h100-80gb", "off", "" },
        { "h100-80gb", "", "off" },
        { "h100-80gb", "", "9@0 9@2 1@4 9@6" },     /* P14 */
        { "h100-80gb", "", "1@0/7" },               /* P22: 26 multiprocessors */
        { "a100-40gb", "", "1@0 0@2 0@3 2@4" },     /* P4 */
        { "a100-40gb", "", "9@0 9@2 0@4 0@5 9@6" }, /* T6 */
        { "a100-40gb", "7@6", "0@0 7@6" },
        { "a30", "", "0@0 0@1 1@2" },
        { "rtx-pro-6000", "", "15@0 13@3 13@6 13@9" },
        { "rtx-pro-6000", "0@0 0@3 0@6 0@9", "1@0 0@6 0@9" }, /* P11 */
        { "h100-80gb", "0@0 0@1", "0@0 0@1" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_bench bench = bench_new(rows[i].gpu);

        SET(bench, rows[i].from);
        assert_picture(bench, rows[i].from);
        PLAN(bench, rows[i].to);
        if (apply(bench) < 0)
            fail_msg("%s -> %s: %s", rows[i].from, rows[i].to, bench->err.text);
        assert_picture(bench, rows[i].to);
        assert_false(bench->outcome.undone);
        assert_false(state_has(bench, MIG_JOURNAL_FILE));
        check_changes(bench);
        check_imagined(bench);
    }
}

static void what_stays_is_not_touched(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");
    auto_(buf_done) struct buf before = BUF_MAX(KIB(8)), after = BUF_MAX(KIB(8));

    SET(bench, "0@0 0@1 0@2 0@3 0@4 0@5 0@6", "4@0");
    world_run(bench->world, 0, 4711, 9, "python3"); /* at 2 */
    world_run(bench->world, 1, 4712, 0, "python3");
    world_picture(bench->world, 1, true, &before);
    char uuid[48];
    strcpy(uuid, sim_gi_by_id(&bench->world->sim->gpus[0], 9)->compute[0].uuid);

    PLAN(bench, "1@0 0@2 0@3 2@4", NULL);
    if (apply(bench) < 0)
        fail_msg("%s", bench->err.text);
    assert_picture(bench, "1@0 0@2 0@3 2@4 | 4@0");
    world_picture(bench->world, 1, true, &after);
    assert_string_equal(buf_text(&before), buf_text(&after));
    assert_string_equal(uuid, sim_gi_by_id(&bench->world->sim->gpus[0], 9)->compute[0].uuid);
    assert_null(change_of(bench, uuid));
}

static void nothing_to_do_leaves_no_trace(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    SET(bench, "0@0 0@1");
    PLAN(bench, "0@0 0@1");
    assert_int_equal(apply(bench), 0);
    assert_int_equal(bench->outcome.n_changes, 0);
    assert_false(file_exists(bench->state_dir));
    assert_int_equal(recover(bench), 0);
    assert_false(file_exists(bench->state_dir));
}

static void check_paper(void *user, const struct mig_gpu *gpu, const struct mig_step *step,
                        size_t i, size_t n)
{
    struct bench *bench = user;
    char path[256];
    struct stat st;

    assert_true(i >= 1 && i <= n);
    assert_int_equal(gpu->index, 0);
    assert_int_equal(stat(bench->state_dir, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    snprintf(path, sizeof(path), "%s/%s", bench->state_dir, MIG_JOURNAL_FILE);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    bench->outcome.n_pending++; /* a count that nobody else needs in this test */
}

static void the_journal_is_there_while_steps_are_made(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    PLAN(bench, "0@0 0@1");
    bench->options.progress = check_paper;
    bench->options.user = bench;
    assert_int_equal(apply(bench), 0);
    assert_int_equal(bench->outcome.n_pending, bench->plans[0].n_steps);
    assert_false(state_has(bench, MIG_JOURNAL_FILE));
}

/* ---- old drivers ---- */

static nvmlReturn_t no_gi_create_at(nvmlDevice_t device, uint32_t profile_id,
                                    const struct nvml_placement *placement, nvmlGpuInstance_t *gi)
{
    return NVML_NOT_SUPPORTED;
}

static nvmlReturn_t no_ci_create_at(nvmlGpuInstance_t gi, uint32_t profile_id,
                                    const struct nvml_placement *placement,
                                    nvmlComputeInstance_t *ci)
{
    return NVML_NOT_SUPPORTED;
}

static nvmlReturn_t no_device_by_uuid(const char *uuid, nvmlDevice_t *device)
{
    return NVML_NOT_SUPPORTED;
}

/* As nvml.c fills in what a library lacks. */
static void make_driver_old(struct bench *bench)
{
    bench->world->nvml->gi_create_at = no_gi_create_at;
    bench->world->nvml->ci_create_at = no_ci_create_at;
    bench->world->nvml->device_by_uuid = no_device_by_uuid;
}

static void places_come_true_with_a_driver_that_chooses_them(void **state)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        { "off", "0@0 0@1 0@2 0@3 0@4 0@5 0@6" },
        { "", "1@0 0@2 0@3 2@4" },
        { "", "2@0 0@4" }, /* the driver prefers 4 and 6 */
        { "", "2@4/0,0,0" },
        { "2@4/1", "2@4/1,0" },
        { "0@6", "0@3 0@6" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_bench bench = bench_new("h100-80gb");

        SET(bench, rows[i].from);
        make_driver_old(bench);
        PLAN(bench, rows[i].to);
        if (apply(bench) < 0)
            fail_msg("%s -> %s: %s", rows[i].from, rows[i].to, bench->err.text);
        assert_picture(bench, rows[i].to);
    }
}

/* ---- refused ---- */

static void a_process_that_came_after_the_plan_is_named_and_all_is_as_it_was(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");
    auto_(buf_done) struct buf now = BUF_MAX(KIB(8));

    SET(bench, "0@0 0@1 0@5", "0@0 0@1 0@5");
    PLAN(bench, "2@0", "2@0");
    world_run(bench->world, 1, 4711, 12, "python3"); /* at 5 */
    char uuid[48];
    strcpy(uuid, sim_gi_by_id(&bench->world->sim->gpus[1], 12)->compute[0].uuid);

    assert_int_equal(apply(bench), -EBUSY);
    if (!strstr(bench->err.text, "GPU 1: cannot ") ||
        !strstr(bench->err.text, "In use by another client: process 4711 (python3)") ||
        !text_ends(bench->err.text, "; everything is as it was"))
        fail_msg("%s", bench->err.text);
    assert_true(bench->outcome.undone);
    assert_picture(bench, "0@0 0@1 0@5 | 0@0 0@1 0@5");
    world_pictures(bench->world, true, &now);
    assert_non_null(strstr(buf_text(&now), uuid)); /* not touched */
    assert_false(state_has(bench, MIG_JOURNAL_FILE));
    check_changes(bench);
}

/* P17, P18: the mode is not left pending behind somebody's back. */
static void a_mode_that_somebody_is_in_the_way_of_is_taken_back(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");

    PLAN(bench, "0@0", "0@0");
    world_run(bench->world, 1, 4711, SIM_NO_INSTANCE, "train");
    assert_int_equal(apply(bench), -EBUSY);
    if (!strstr(bench->err.text, "process 4711 (train)"))
        fail_msg("%s", bench->err.text);
    assert_picture(bench, "off | off");
    assert_true(bench->outcome.undone);
}

static void a_gpu_that_others_changed_meanwhile_is_left_alone(void **state)
{
    static const struct {
        const char *then, *wanted, *now;
    } rows[] = {
        { "0@0 0@5", "2@0 0@5", "0@0 0@5" }, /* the same again, with other UUIDs */
        { "0@0 0@5", "2@0 0@5", "1@0 0@5" },
        { "0@0 0@5", "2@0 0@5", "0@0/- 0@5" },
        { "0@0 0@5", "2@0 0@5", "" },
        { "0@0 0@5/-", "0@0", "0@0 7@5/-" }, /* another instance with the same id and place */
        { "0@0 2@4/-", "0@0 2@4", "0@0" },
    };

    for (size_t n = 0; n < 2 * ARRAY_LEN(rows); n++) {
        auto_bench bench = bench_new("2xh100-80gb");
        auto_(buf_done) struct buf before = BUF_MAX(KIB(8)), after = BUF_MAX(KIB(8));
        char wanted[64];
        size_t i = n / 2;

        SET(bench, "0@3", rows[i].then);
        PLAN(bench, n % 2 ? "0@2" : NULL, rows[i].wanted); /* alone, and after another GPU */
        SET(bench, "0@3", rows[i].now);
        sim_state_lock(bench->world->sim);
        strcpy(bench->world->sim->gpus[0].instances[0].compute[0].uuid,
               bench->node->gpus[0].gis[0].cis[0].uuid); /* this one has not changed */
        sim_state_unlock(bench->world->sim);
        world_picture(bench->world, 1, true, &before);
        assert_int_equal(apply(bench), -ESTALE);
        assert_non_null(strstr(bench->err.text, "somebody else has changed the GPU"));
        world_picture(bench->world, 1, true, &after);
        assert_string_equal(buf_text(&after), buf_text(&before));
        snprintf(wanted, sizeof(wanted), "0@3 | %s", rows[i].now);
        assert_picture(bench, wanted);
        assert_false(state_has(bench, MIG_JOURNAL_FILE));
    }
}

static void a_state_folder_that_cannot_be_is_no_ground_to_start(void **state)
{
    auto_bench bench = bench_new("h100-80gb");
    char path[128];

    snprintf(path, sizeof(path), "%s/var", bench->dir);
    assert_int_equal(file_replace(AT_FDCWD, path, SPAN("a file"), 0600, NULL), 0);
    PLAN(bench, "0@0");
    assert_true(apply(bench) < 0);
    assert_non_null(strstr(bench->err.text, bench->dir));
    assert_picture(bench, "off");
}

static void a_refused_plan_is_not_applied(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    PLAN(bench, "0@0");
    bench->plans[0].refusal = MIG_REFUSED_HELD;
    bench->plans[0].sentence = "held by process 1";
    assert_int_equal(apply(bench), -EBUSY);
    assert_string_equal(bench->err.text, "GPU 0: held by process 1");
    assert_picture(bench, "off");
}

/* ---- one at a time ---- */

static void a_second_change_is_refused_with_the_first_ones_pid(void **state)
{
    auto_bench bench = bench_new("h100-80gb");
    auto_(mig_lock_done) struct mig_lock lock = MIG_LOCK_NONE;
    int ready[2], end[2], status;
    char byte, wanted[64];

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    PLAN(bench, "0@0");
    pid_t child = fork();
    if (child == 0) {
        struct mig_lock mine = MIG_LOCK_NONE;
        if (mig_lock_take(bench->state_dir, &mine, NULL) < 0 || write(ready[1], "x", 1) != 1 ||
            read(end[0], &byte, 1) != 1)
            _exit(1);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    snprintf(wanted, sizeof(wanted), "process %d has", (int)child);
    assert_int_equal(apply(bench), -EBUSY);
    if (!strstr(bench->err.text, wanted))
        fail_msg("%s", bench->err.text);
    assert_picture(bench, "off");
    assert_int_equal(mig_lock_take(bench->state_dir, &lock, &bench->err), -EBUSY);
    assert_int_equal(write(end[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);

    /* The dead hold nothing, and a lock that the caller has serves for the call. */
    assert_int_equal(mig_lock_take(bench->state_dir, &lock, &bench->err), 0);
    bench->options.lock = &lock;
    assert_int_equal(apply(bench), 0);
    assert_picture(bench, "0@0");
    for (size_t i = 0; i < 2; i++) {
        close(ready[i]);
        close(end[i]);
    }
}

static void a_journal_that_is_left_must_be_finished_first(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    write_state(bench, MIG_JOURNAL_FILE, SPAN("{}"));
    PLAN(bench, "0@0");
    assert_int_equal(apply(bench), -EBUSY);
    assert_non_null(strstr(bench->err.text, "left unfinished"));
    assert_picture(bench, "off");
    assert_true(state_has(bench, MIG_JOURNAL_FILE));
}

/* ---- resets ---- */

struct resets {
    struct bench *bench;
    int answer;
    size_t n_calls, n_gpus;
    char bus_ids[4][32];
};

/* As nvidia-smi --gpu-reset: only without any NVML session of ours. */
static int reset(void *user, const char *const *bus_ids, size_t n, struct err *err)
{
    struct resets *resets = user;
    struct sim_state *sim = resets->bench->world->sim;
    uint32_t current, gpu;

    assert_int_equal(resets->bench->world->nvml->device_count(&current), NVML_UNINITIALIZED);
    resets->n_calls++;
    resets->n_gpus = n;
    if (resets->answer < 0)
        return err_set(err, -resets->answer, "nvidia-smi: exit status 1");
    for (size_t i = 0; i < n; i++) {
        snprintf(resets->bus_ids[i], sizeof(resets->bus_ids[i]), "%s", bus_ids[i]);
        sim_state_lock(sim);
        int r = sim_gpu_find(sim, bus_ids[i], &gpu, err);
        if (r == 0)
            r = sim_gpu_reset(sim, &sim->gpus[gpu], err);
        sim_state_unlock(sim);
        if (r < 0)
            return r;
    }
    return 0;
}

static void only_gpus_that_wait_are_reset_all_at_once(void **state)
{
    auto_bench bench = bench_new("4xa100-40gb");
    struct resets resets = { .bench = bench };
    auto_(buf_done) struct buf before = BUF_MAX(KIB(8)), after = BUF_MAX(KIB(8));

    SET(bench, "off", "0@0 0@1", "off", "0@0");
    world_picture(bench->world, 1, true, &before);
    bench->options.reset = reset;
    bench->options.user = &resets;
    PLAN(bench, "0@0 0@6", "0@0 0@1 0@2", "2@4", "off");
    if (apply(bench) < 0)
        fail_msg("%s", bench->err.text);
    assert_picture(bench, "0@0 0@6 | 0@0 0@1 0@2 | 2@4 | off");
    assert_int_equal(resets.n_calls, 1);
    assert_int_equal(resets.n_gpus, 3);
    assert_string_equal(resets.bus_ids[0], bench->node->gpus[0].bus_id);
    assert_string_equal(resets.bus_ids[1], bench->node->gpus[2].bus_id);
    assert_string_equal(resets.bus_ids[2], bench->node->gpus[3].bus_id);
    world_picture(bench->world, 1, true, &after);
    assert_memory_equal(buf_text(&before), buf_text(&after), strlen("0@0[MIG-01234567"));
}

/* Both modes have to be taken back, so both GPUs are reset once more. */
static void what_fails_after_a_reset_is_taken_back_with_another(void **state)
{
    auto_bench bench = bench_new("2xa100-40gb");
    struct resets resets = { .bench = bench };

    SET(bench, "off", "0@5");
    bench->options.reset = reset;
    bench->options.user = &resets;
    PLAN(bench, "0@0 2@4", "off");
    world_fault(bench->world, "nvmlDeviceCreateGpuInstance*", -1, 1, 1, NVML_UNKNOWN);
    assert_true(apply(bench) < 0);
    assert_true(bench->outcome.undone);
    assert_int_equal(resets.n_calls, 2);
    assert_int_equal(resets.n_gpus, 2);
    assert_picture(bench, "off | 0@5");
    check_changes(bench);
}

/* P18: Ampere takes the mode nevertheless, and lets the reset decide. */
static void somebody_on_an_ampere_is_in_the_way_of_its_reset(void **state)
{
    auto_bench bench = bench_new("a100-40gb");
    struct resets resets = { .bench = bench };

    bench->options.reset = reset;
    bench->options.user = &resets;
    PLAN(bench, "0@0");
    world_run(bench->world, 0, 4711, SIM_NO_INSTANCE, "dcgm");
    assert_int_equal(apply(bench), -EBUSY);
    assert_int_equal(resets.n_calls, 1);
    assert_non_null(strstr(bench->err.text, "process 4711 (dcgm)"));
    assert_picture(bench, "off");
}

/* Where the driver resets an idle Ampere by itself. */
static void no_gpu_is_reset_that_has_its_mode_already(void **state)
{
    auto_bench bench = bench_new("a100-40gb");
    struct resets resets = { .bench = bench };

    bench->world->sim->gpus[0].mig_needs_reset = false;
    bench->options.reset = reset;
    bench->options.user = &resets;
    PLAN(bench, "0@0");
    assert_int_equal(apply(bench), 0);
    assert_picture(bench, "0@0");
    assert_int_equal(resets.n_calls, 0);
}

static void a_reset_that_fails_leaves_no_mode_pending(void **state)
{
    auto_bench bench = bench_new("2xa100-40gb");
    struct resets resets = { .bench = bench, .answer = -EIO };

    SET(bench, "off", "0@0 0@1");
    bench->options.user = &resets;
    for (size_t i = 0; i < 2; i++) {
        bench->options.reset = i == 0 ? reset : NULL;
        PLAN(bench, "0@0", "2@0");
        assert_true(apply(bench) < 0);
        assert_non_null(strstr(bench->err.text, i == 0 ? "exit status 1" : "nvidia-smi -r -i"));
        assert_true(bench->outcome.undone);
        assert_picture(bench, "off | 0@0 0@1");
        assert_false(state_has(bench, MIG_JOURNAL_FILE));
    }
}

static void without_a_reset_the_mode_waits_and_is_counted(void **state)
{
    auto_bench bench = bench_new("a100-40gb,h100-80gb");
    struct resets resets = { .bench = bench };

    bench->options.skip_reset = true;
    bench->options.reset = reset;
    bench->options.user = &resets;
    PLAN(bench, "0@0", "0@0"); /* T12 */
    assert_int_equal(apply(bench), 0);
    assert_int_equal(bench->outcome.n_pending, 1);
    assert_int_equal(resets.n_calls, 0);
    assert_picture(bench, "(pending) off | 0@0");
    assert_false(state_has(bench, MIG_JOURNAL_FILE));
}

/* ---- killed ---- */

enum { BEFORE_CALL, AFTER_CALL, MOMENTS };

/* Kills this process at the nth call that changes something; SIZE_MAX: never. */
static struct {
    size_t n, at;
    int moment;
    struct nvml real;
} killer;

static void die_at(int moment)
{
    if (killer.n == killer.at && moment == killer.moment)
        kill(getpid(), SIGKILL);
    if (moment == AFTER_CALL)
        killer.n++;
}

#define DEADLY(member, args, call)                                                                 \
    static nvmlReturn_t deadly_##member args                                                       \
    {                                                                                              \
        die_at(BEFORE_CALL);                                                                       \
        nvmlReturn_t code = killer.real.member call;                                               \
        die_at(AFTER_CALL);                                                                        \
        return code;                                                                               \
    }

DEADLY(mig_mode_set, (nvmlDevice_t device, uint32_t mode, nvmlReturn_t *activation),
       (device, mode, activation))
DEADLY(gi_create_at,
       (nvmlDevice_t device, uint32_t id, const struct nvml_placement *at, nvmlGpuInstance_t *gi),
       (device, id, at, gi))
DEADLY(gi_create, (nvmlDevice_t device, uint32_t id, nvmlGpuInstance_t *gi), (device, id, gi))
DEADLY(gi_destroy, (nvmlGpuInstance_t gi), (gi))
DEADLY(ci_create_at,
       (nvmlGpuInstance_t gi, uint32_t id, const struct nvml_placement *at,
        nvmlComputeInstance_t *ci),
       (gi, id, at, ci))
DEADLY(ci_create, (nvmlGpuInstance_t gi, uint32_t id, nvmlComputeInstance_t *ci), (gi, id, ci))
DEADLY(ci_destroy, (nvmlComputeInstance_t ci), (ci))

static void make_deadly(struct nvml *nvml, size_t at, int moment)
{
    killer.n = 0;
    killer.at = at;
    killer.moment = moment;
    killer.real = *nvml;
    nvml->mig_mode_set = deadly_mig_mode_set;
    nvml->gi_create_at = deadly_gi_create_at;
    nvml->gi_create = deadly_gi_create;
    nvml->gi_destroy = deadly_gi_destroy;
    nvml->ci_create_at = deadly_ci_create_at;
    nvml->ci_create = deadly_ci_create;
    nvml->ci_destroy = deadly_ci_destroy;
}

typedef int bench_act(struct bench *bench);

/* In a process of its own, killed at this call; false when it lived to the end. */
static bool run_and_kill(struct bench *bench, bench_act *act, size_t at, int moment)
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        make_deadly(bench->world->nvml, at, moment);
        act(bench);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        return assert_int_equal(WTERMSIG(status), SIGKILL), true;
    assert_int_equal(status, 0);
    return false;
}

static void check_no_leftovers(struct bench *bench)
{
    assert_false(state_has(bench, MIG_JOURNAL_FILE));
    assert_false(state_has(bench, MIG_JOURNAL_BAD));
    assert_int_equal(recover(bench), 0);
}

struct story {
    const char *gpus;
    const char *from[2], *to[2];
    const char *fault; /* this call fails once, so that the change is taken back */
    uint32_t fault_after;
    bool old_driver;
    bool reset; /* there is somebody who resets GPUs */
};

static const struct story stories[] = {
    { "2xh100-80gb",
      { "0@0 0@1 0@2 0@3 0@4 0@5 0@6", "off" },
      { "1@0 0@2 0@3 2@4", "0@0 0@1 2@4/0,0" } },
    { "2xh100-80gb", { "2@0/0,0,0 2@4", "1@0" }, { "off", "1@0/0,0 1@2" } },
    { "2xh100-80gb",
      { "0@0 0@1 0@5 0@6", "off" },
      { "1@0 0@5 0@6", "0@0 2@4" },
      .fault = "nvmlGpuInstanceCreateComputeInstance*",
      .fault_after = 2 },
    { "2xh100-80gb", { "off", "0@5" }, { "0@0 0@1", "2@4" }, .old_driver = true },
    { "2xa100-40gb", { "off", "0@5 0@6" }, { "0@0 2@4", "off" }, .reset = true },
    { "2xa100-40gb",
      { "off", "0@5 0@6" },
      { "0@0 2@4", "off" },
      .reset = true,
      .fault = "nvmlGpuInstanceCreateComputeInstance*",
      .fault_after = 1 },
};

/* For as long as a bench tells this story. */
static void set_stage(struct bench *bench, const struct story *story, struct resets *resets)
{
    *resets = (struct resets){ .bench = bench };
    bench->options.user = resets;
    if (story->reset)
        bench->options.reset = reset;
    if (story->old_driver)
        make_driver_old(bench);
}

static void begin(struct bench *bench, const struct story *story)
{
    world_no_faults(bench->world);
    SET(bench, story->from[0], story->from[1]);
    PLAN(bench, story->to[0], story->to[1]);
    if (story->fault)
        world_fault(bench->world, story->fault, -1, story->fault_after, 1, NVML_UNKNOWN);
}

/* One side or the other, of all GPUs. */
static void check_side(struct bench *bench, const struct story *story, bool *ret_after)
{
    auto_(buf_done) struct buf now = BUF_MAX(KIB(16));
    char before[256], after[256];

    snprintf(before, sizeof(before), "%s | %s", story->from[0], story->from[1]);
    snprintf(after, sizeof(after), "%s | %s", story->to[0], story->to[1]);
    world_pictures(bench->world, false, &now);
    *ret_after = text_equal(buf_text(&now), after);
    if (!*ret_after && !text_equal(buf_text(&now), before))
        fail_msg("neither \"%s\" nor \"%s\": \"%s\"", before, after, buf_text(&now));
}

/* Steps of the change and, where it fails, of its undoing: the process dies at each, before and
 * after the call. Dying before the first is dying after the journal was written; after the last,
 * before it was removed. */
static void killed_at_any_step_it_is_finished_or_taken_back(void **state)
{
    for (size_t s = 0; s < ARRAY_LEN(stories); s++) {
        const struct story *story = &stories[s];
        auto_bench bench = bench_new(story->gpus);
        struct resets resets;
        size_t n_killed = 0;

        set_stage(bench, story, &resets);
        for (int moment = 0; moment < MOMENTS; moment++) {
            for (size_t at = 0;; at++, n_killed++) {
                bool after;

                begin(bench, story);
                if (!run_and_kill(bench, apply, at, moment))
                    break;
                assert_true(state_has(bench, MIG_JOURNAL_FILE));
                world_no_faults(bench->world);
                int r = recover(bench);
                if (r < 0)
                    fail_msg("story %zu, killed at %zu: %s", s, at, bench->err.text);
                assert_int_equal(r, 1);
                check_side(bench, story, &after);
                assert_int_equal(after, !bench->outcome.undone);
                check_no_leftovers(bench);
            }
        }
        print_message("story %zu: killed %zu times\n", s, n_killed);
        assert_true(n_killed >= 16);
    }
}

/* Killed once on the way, and once more at each step of the recovery. */
static void killed_again_while_recovering_it_is_finished_or_taken_back(void **state)
{
    for (size_t s = 0; s < 2; s++) {
        const struct story *story = &stories[s];
        auto_bench bench = bench_new(story->gpus);
        size_t n_killed = 0;

        for (size_t first = 0;; first += 3) {
            size_t at = 0;

            for (;; at++, n_killed++) {
                bool after;

                begin(bench, story);
                if (!run_and_kill(bench, apply, first, AFTER_CALL))
                    break;
                bool again = run_and_kill(bench, recover, at, at % MOMENTS);
                if (again)
                    assert_int_equal(recover(bench), 1);
                check_side(bench, story, &after);
                check_no_leftovers(bench);
                if (!again)
                    break;
            }
            if (at == 0)
                break;
        }
        print_message("story %zu: killed %zu times in recoveries\n", s, n_killed);
        assert_true(n_killed >= 24);
    }
}

/* Somebody began to use what was made before the process was killed: it is finished around them. */
static void recovery_does_not_touch_what_is_held(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    SET(bench, "off");
    PLAN(bench, "0@0 0@1 2@4");
    assert_true(run_and_kill(bench, apply, 3, BEFORE_CALL)); /* mode, GI 0, CI 0 are there */
    world_run(bench->world, 0, 4711, 7, "python3");
    char uuid[48];
    strcpy(uuid, sim_gi_by_id(&bench->world->sim->gpus[0], 7)->compute[0].uuid);
    assert_int_equal(recover(bench), 1);
    assert_picture(bench, "0@0 0@1 2@4");
    assert_string_equal(uuid, sim_gi_by_id(&bench->world->sim->gpus[0], 7)->compute[0].uuid);
}

static void recovery_that_can_go_nowhere_keeps_its_journal(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    SET(bench, "0@0");
    PLAN(bench, "2@0");
    assert_true(run_and_kill(bench, apply, 2, BEFORE_CALL));
    assert_picture(bench, "");
    world_fault(bench->world, "nvmlDeviceCreateGpuInstance*", -1, 0, 0, NVML_UNKNOWN);
    assert_int_equal(recover(bench), -ENOTRECOVERABLE);
    if (!strstr(bench->err.text, "cannot be taken back") ||
        !strstr(bench->err.text, MIG_JOURNAL_FILE))
        fail_msg("%s", bench->err.text);
    assert_true(state_has(bench, MIG_JOURNAL_FILE));
    world_no_faults(bench->world);
    assert_int_equal(recover(bench), 1);
    assert_picture(bench, "2@0");
    check_no_leftovers(bench);
}

static void recovery_after_a_reboot_makes_what_was_wanted(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");

    SET(bench, "0@0 0@1", "off");
    PLAN(bench, "2@0", "0@5");
    assert_true(run_and_kill(bench, apply, 3, AFTER_CALL));
    sim_state_lock(bench->world->sim);
    sim_reboot(bench->world->sim);
    sim_state_unlock(bench->world->sim);
    assert_int_equal(recover(bench), 1);
    assert_picture(bench, "2@0 | 0@5");
    check_no_leftovers(bench);
}

static void recovery_that_cannot_look_for_a_journal_says_so(void **state)
{
    auto_bench bench = bench_new("h100-80gb");
    char parent[96];

    snprintf(parent, sizeof(parent), "%s/var", bench->dir);
    assert_int_equal(file_make_dirs(parent, 0700, NULL), 0);
    assert_int_equal(file_replace(AT_FDCWD, bench->state_dir, SPAN("no folder"), 0600, NULL), 0);
    assert_int_equal(recover(bench), -ENOTDIR);
    assert_non_null(strstr(bench->err.text, bench->state_dir));
}

static void recovery_does_not_reset_what_was_not_to_be_reset(void **state)
{
    auto_bench bench = bench_new("a100-40gb");
    struct resets resets = { .bench = bench };

    PLAN(bench, "0@0");
    bench->options.skip_reset = true;
    assert_true(run_and_kill(bench, apply, 0, AFTER_CALL));
    bench->options.skip_reset = false;
    bench->options.reset = reset;
    bench->options.user = &resets;
    assert_int_equal(recover(bench), 1);
    assert_int_equal(resets.n_calls, 0);
    assert_int_equal(bench->outcome.n_pending, 1);
    assert_picture(bench, "(pending) off");
    check_no_leftovers(bench);
}

static void recovery_turns_mig_on_where_a_driver_hides_its_profiles_without(void **state)
{
    auto_bench bench = bench_new("h100-80gb");

    SET(bench, "0@0 0@1");
    PLAN(bench, "2@0");
    assert_true(run_and_kill(bench, apply, 3, AFTER_CALL));
    sim_state_lock(bench->world->sim);
    bench->world->sim->mig_profiles_hidden = true;
    sim_reboot(bench->world->sim);
    sim_state_unlock(bench->world->sim);
    assert_int_equal(recover(bench), 1);
    assert_picture(bench, "2@0");
    check_no_leftovers(bench);
}

static void lose_gpu(void *user, const struct mig_gpu *gpu, const struct mig_step *step, size_t i,
                     size_t n)
{
    struct bench *bench = user;

    if (gpu->index != 1 || step->kind != MIG_STEP_CREATE_GI)
        return;
    sim_state_lock(bench->world->sim);
    sim_lose(bench->world->sim, 1);
    sim_state_unlock(bench->world->sim);
}

static void a_gpu_that_is_lost_on_the_way_does_not_keep_the_others(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");

    SET(bench, "0@0 0@1", "0@5");
    PLAN(bench, "2@0", "2@0 0@5");
    bench->options.progress = lose_gpu;
    bench->options.user = bench;
    assert_int_equal(apply(bench), -ENODEV);
    if (!strstr(bench->err.text, "GPU 1") || !strstr(bench->err.text, "GPU is lost"))
        fail_msg("%s", bench->err.text);
    assert_true(bench->outcome.undone);
    assert_non_null(strstr(bench->outcome.note, "is lost"));
    auto_(buf_done) struct buf now = BUF_MAX(KIB(4));
    world_picture(bench->world, 0, false, &now);
    assert_string_equal(buf_text(&now), "0@0 0@1");
    assert_false(state_has(bench, MIG_JOURNAL_FILE));
}

/* ---- each call fails ---- */

static void any_call_that_fails_once_leaves_one_side_or_the_other(void **state)
{
    static const nvmlReturn_t codes[] = { NVML_UNKNOWN, NVML_IN_USE, NVML_INSUFFICIENT_RESOURCES,
                                          NVML_NO_PERMISSION };

    for (size_t s = 0; s < ARRAY_LEN(stories); s++) {
        const struct story *story = &stories[s];
        auto_bench bench = bench_new(story->gpus);
        size_t n_undone = 0, n_done = 0;
        struct resets resets;

        if (story->fault)
            continue; /* has its own */
        set_stage(bench, story, &resets);
        for (uint32_t at = 0;; at++) {
            bool after;
            begin(bench, story);
            uint64_t before = bench->world->sim->n_calls;
            world_fault(bench->world, "nvml*", -1, at, 1, codes[at % ARRAY_LEN(codes)]);
            int r = apply(bench);
            bool over = bench->world->sim->n_calls - before <= at;
            world_no_faults(bench->world);
            if (r == -ENOTRECOVERABLE)
                fail_msg("call %u: %s", at, bench->err.text);
            check_side(bench, story, &after);
            assert_int_equal(after, r == 0);
            assert_int_equal(bench->outcome.undone, r < 0);
            if (r < 0)
                assert_true(text_ends(bench->err.text, "; everything is as it was"));
            check_changes(bench);
            assert_false(state_has(bench, MIG_JOURNAL_FILE));
            n_undone += r < 0;
            n_done += r == 0;
            if (over)
                break;
        }
        print_message("story %zu: %zu calls undone, %zu done\n", s, n_undone, n_done);
        assert_true(n_undone > 10);
    }
}

static void a_driver_that_fails_for_good_leaves_a_journal_to_recover_from(void **state)
{
    const struct story *story = &stories[0];
    auto_bench bench = bench_new(story->gpus);
    size_t n_stuck = 0;

    for (uint32_t at = 0;; at++) {
        bool after;
        begin(bench, story);
        uint64_t before = bench->world->sim->n_calls;
        world_fault(bench->world, "nvml*", -1, at, 0, NVML_UNKNOWN);
        int r = apply(bench);
        bool over = bench->world->sim->n_calls - before <= at;
        world_no_faults(bench->world);
        if (r == -ENOTRECOVERABLE) {
            n_stuck++;
            assert_true(state_has(bench, MIG_JOURNAL_FILE));
            assert_int_equal(recover(bench), 1);
        }
        check_side(bench, story, &after);
        check_no_leftovers(bench);
        if (over)
            break;
    }
    assert_true(n_stuck > 10);
}

/* ---- journals that are none ---- */

#define HERE "\"uuid\": \"%s\", \"index\": 0"
#define OFF  "{\"mig\": false, \"instances\": []}"

static void journals_that_make_no_sense_are_kept_aside_and_not_followed(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{\"version\": 2, \"pid\": 1, \"skipReset\": false, \"gpus\": []}",
        "{\"version\": 1, \"pid\": 1, \"skipReset\": false, \"gpus\": []}",
        "{\"version\": 1, \"pid\": 1, \"skipReset\": false, \"gpus\": [{" HERE ", \"before\": " OFF
        "}]}",
        "{\"version\": 1, \"pid\": 1, \"skipReset\": false, \"gpus\": [{" HERE ", \"before\": " OFF
        ", \"after\": {\"mig\": true, \"instances\": [{\"profile\": 99, \"start\": 0, \"size\": 1, "
        "\"compute\": []}]}}]}",
        /* another machine's */
        "{\"version\": 1, \"pid\": 1, \"skipReset\": false, \"gpus\": [{\"uuid\": "
        "\"GPU-00000000-1111-2222-3333-444444444444\", \"index\": 0, \"before\": " OFF
        ", \"after\": {\"mig\": true, \"instances\": []}}]}",
    };
    auto_bench bench = bench_new("h100-80gb");

    SET(bench, "0@0 0@1");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        auto_(buf_done) struct buf text = BUF_MAX(KIB(4)), before = BUF_MAX(KIB(4)),
                                   after = BUF_MAX(KIB(4));
        const char *hole = strstr(texts[i], "%s");

        if (hole) {
            buf_add(&text, texts[i], (size_t)(hole - texts[i]));
            buf_add_text(&text, bench->world->sim->gpus[0].uuid);
            buf_add_text(&text, hole + 2);
        } else {
            buf_add_text(&text, texts[i]);
        }
        write_state(bench, MIG_JOURNAL_FILE, buf_span(&text));
        world_pictures(bench->world, true, &before);
        int r = recover(bench);
        if (r != 0)
            fail_msg("%zu: %d %s", i, r, bench->err.text);
        assert_false(state_has(bench, MIG_JOURNAL_FILE));
        assert_true(state_has(bench, MIG_JOURNAL_BAD));
        if (!strstr(bench->outcome.note, MIG_JOURNAL_FILE ": ") &&
            !strstr(bench->outcome.note, MIG_JOURNAL_FILE ":1:"))
            fail_msg("%zu: %s", i, bench->outcome.note);
        assert_non_null(strstr(bench->outcome.note, MIG_JOURNAL_BAD));
        world_pictures(bench->world, true, &after);
        assert_string_equal(buf_text(&before), buf_text(&after));
    }
}

/* A journal cut anywhere is none, or the whole but for its last line end. */
static void truncated_journals_are_kept_aside(void **state)
{
    auto_bench bench = bench_new("h100-80gb");
    auto_(buf_done) struct buf text = BUF_MAX(KIB(16));
    struct mig_journal journal = { .pid = 1, .n_gpus = 1 };
    struct mig_journal_gpu gpu = { .uuid = bench->world->sim->gpus[0].uuid };

    PLAN(bench, "0@0 2@4/0,0");
    gpu.before = bench->plans[0].before;
    gpu.after = bench->plans[0].after;
    journal.gpus = &gpu;
    assert_int_equal(mig_journal_to_text(&journal, &text), 0);
    for (size_t len = 0; len < text.len - 1; len += 7) {
        write_state(bench, MIG_JOURNAL_FILE, (struct span){ .ptr = text.ptr, .len = len });
        assert_int_equal(recover(bench), 0);
        assert_non_null(bench->outcome.note);
        assert_picture(bench, "off");
    }
    write_state(bench, MIG_JOURNAL_FILE, buf_span(&text));
    assert_int_equal(recover(bench), 1);
    assert_picture(bench, "0@0 2@4/0,0");
}

static void gpus_that_are_gone_do_not_hold_up_those_that_are_there(void **state)
{
    auto_bench bench = bench_new("2xh100-80gb");

    SET(bench, "0@0", "0@0");
    PLAN(bench, "2@0", "2@0");
    assert_true(run_and_kill(bench, apply, 2, AFTER_CALL)); /* the first GPU, half done */
    strcpy(bench->world->sim->gpus[1].uuid, "GPU-00000000-1111-2222-3333-444444444444");
    assert_int_equal(recover(bench), 1);
    assert_non_null(strstr(bench->outcome.note, "not there"));
    assert_picture(bench, "2@0 | 0@0");
    check_no_leftovers(bench);
}

/* ---- without memory ---- */

static void without_memory_one_side_or_the_other_is_left_or_a_journal(void **state)
{
    for (size_t s = 0; s < 2; s++) {
        const struct story *story = &stories[s];
        auto_bench bench = bench_new(story->gpus);
        size_t n_stuck = 0, n_refused = 0;

        for (unsigned long at = 1;; at++) {
            bool after;
            begin(bench, story);
            mem_fail_from(at);
            int r = apply(bench);
            bool over = mem_count() < at;
            mem_fail_from(0);
            if (state_has(bench, MIG_JOURNAL_FILE)) {
                assert_int_equal(r, -ENOTRECOVERABLE);
                n_stuck++;
                assert_int_equal(recover(bench), 1);
            } else if (r < 0) {
                n_refused++;
            }
            check_side(bench, story, &after);
            check_no_leftovers(bench);
            if (over)
                break;
        }
        print_message("story %zu: %zu times refused, %zu times recovered\n", s, n_refused, n_stuck);
        assert_true(n_refused + n_stuck > 0);
    }
}

/* ---- several at once ---- */

/* As a verb does it: under the lock, from what was left over to the outcome. */
static int change_to(struct bench *bench, const char *const wishes[2])
{
    auto_(mig_lock_done) struct mig_lock lock = MIG_LOCK_NONE;

    int r = mig_lock_take(bench->state_dir, &lock, &bench->err);
    bench->options.lock = &lock;
    if (r == 0)
        r = recover(bench);
    if (r >= 0) {
        plan(bench, wishes, 2);
        r = apply(bench);
    }
    bench->options.lock = NULL;
    return r;
}

static void of_several_at_once_each_is_done_whole_or_refused(void **state)
{
    enum { PROCESSES = 3, ROUNDS = 20 };
    static const char *const wishes[PROCESSES][2] = {
        { "0@0 0@1 2@4", "4@0" },
        { "1@0 0@2", "2@0 2@4" },
        { "off", "0@6" },
    };
    auto_bench bench = bench_new("2xh100-80gb");
    size_t n_done = 0, n_refused = 0;

    for (size_t round = 0; round < ROUNDS; round++) {
        pid_t children[PROCESSES];
        int status;

        for (size_t i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                int r = change_to(bench, wishes[i]);
                _exit(r == 0 ? 0 : r == -EBUSY ? 1 : 2);
            }
        }
        for (size_t i = 0; i < PROCESSES; i++) {
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
            n_done += WEXITSTATUS(status) == 0;
            n_refused += WEXITSTATUS(status) == 1;
        }
        auto_(buf_done) struct buf now = BUF_MAX(KIB(4));
        world_pictures(bench->world, false, &now);
        bool known = false;
        for (size_t i = 0; i < PROCESSES; i++) {
            char wanted[64];
            snprintf(wanted, sizeof(wanted), "%s | %s", wishes[i][0], wishes[i][1]);
            known |= text_equal(buf_text(&now), wanted);
        }
        if (!known)
            fail_msg("%s", buf_text(&now));
        check_no_leftovers(bench);
    }
    print_message("%zu done, %zu refused\n", n_done, n_refused);
    assert_true(n_done >= ROUNDS);
}

/* A writer that was killed leaves its unfinished file; who has the lock clears it away. */
static void unfinished_journals_are_cleared_away(void **state)
{
    static const char name[] = "." MIG_JOURNAL_FILE ".0123456789abcdef";
    auto_bench bench = bench_new("h100-80gb");
    auto_(mig_lock_done) struct mig_lock lock = MIG_LOCK_NONE;

    write_state(bench, name, SPAN("{\"version\": 1, "));
    assert_int_equal(recover(bench), 0);
    assert_true(state_has(bench, name)); /* without the lock it may be somebody's */
    PLAN(bench, "0@0");
    assert_int_equal(apply(bench), 0);
    assert_false(state_has(bench, name));

    write_state(bench, name, SPAN("{\"version\": 1, "));
    assert_int_equal(mig_lock_take(bench->state_dir, &lock, NULL), 0);
    bench->options.lock = &lock;
    assert_int_equal(recover(bench), 0);
    assert_false(state_has(bench, name));
}

/* ---- what it costs ---- */

static void fifty_six_devices_take_few_calls(void **state)
{
    auto_bench bench = bench_new("8xh100-80gb");
    const char *wishes[8];
    uint64_t before = bench->world->sim->n_calls;

    for (size_t i = 0; i < 8; i++)
        wishes[i] = "0@0 0@1 0@2 0@3 0@4 0@5 0@6";
    plan(bench, wishes, 8);
    uint64_t looked = bench->world->sim->n_calls;
    assert_int_equal(apply(bench), 0);
    uint64_t applied = bench->world->sim->n_calls;
    print_message("look %llu calls, apply %llu calls, arena %zu KiB\n",
                  (unsigned long long)(looked - before), (unsigned long long)(applied - looked),
                  bench->arena.used >> 10);
    assert_int_equal(bench->outcome.n_changes, 56);
    assert_true(applied - before + 2 <= 400); /* and init and shutdown */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_come_true),
        cmocka_unit_test(what_stays_is_not_touched),
        cmocka_unit_test(nothing_to_do_leaves_no_trace),
        cmocka_unit_test(the_journal_is_there_while_steps_are_made),
        cmocka_unit_test(places_come_true_with_a_driver_that_chooses_them),
        cmocka_unit_test(a_process_that_came_after_the_plan_is_named_and_all_is_as_it_was),
        cmocka_unit_test(a_mode_that_somebody_is_in_the_way_of_is_taken_back),
        cmocka_unit_test(a_gpu_that_others_changed_meanwhile_is_left_alone),
        cmocka_unit_test(a_state_folder_that_cannot_be_is_no_ground_to_start),
        cmocka_unit_test(a_refused_plan_is_not_applied),
        cmocka_unit_test(a_second_change_is_refused_with_the_first_ones_pid),
        cmocka_unit_test(a_journal_that_is_left_must_be_finished_first),
        cmocka_unit_test(only_gpus_that_wait_are_reset_all_at_once),
        cmocka_unit_test(what_fails_after_a_reset_is_taken_back_with_another),
        cmocka_unit_test(somebody_on_an_ampere_is_in_the_way_of_its_reset),
        cmocka_unit_test(no_gpu_is_reset_that_has_its_mode_already),
        cmocka_unit_test(a_reset_that_fails_leaves_no_mode_pending),
        cmocka_unit_test(without_a_reset_the_mode_waits_and_is_counted),
        cmocka_unit_test(killed_at_any_step_it_is_finished_or_taken_back),
        cmocka_unit_test(killed_again_while_recovering_it_is_finished_or_taken_back),
        cmocka_unit_test(recovery_does_not_touch_what_is_held),
        cmocka_unit_test(recovery_that_can_go_nowhere_keeps_its_journal),
        cmocka_unit_test(recovery_after_a_reboot_makes_what_was_wanted),
        cmocka_unit_test(recovery_that_cannot_look_for_a_journal_says_so),
        cmocka_unit_test(recovery_does_not_reset_what_was_not_to_be_reset),
        cmocka_unit_test(recovery_turns_mig_on_where_a_driver_hides_its_profiles_without),
        cmocka_unit_test(a_gpu_that_is_lost_on_the_way_does_not_keep_the_others),
        cmocka_unit_test(any_call_that_fails_once_leaves_one_side_or_the_other),
        cmocka_unit_test(a_driver_that_fails_for_good_leaves_a_journal_to_recover_from),
        cmocka_unit_test(journals_that_make_no_sense_are_kept_aside_and_not_followed),
        cmocka_unit_test(truncated_journals_are_kept_aside),
        cmocka_unit_test(gpus_that_are_gone_do_not_hold_up_those_that_are_there),
        cmocka_unit_test(without_memory_one_side_or_the_other_is_left_or_a_journal),
        cmocka_unit_test(of_several_at_once_each_is_done_whole_or_refused),
        cmocka_unit_test(unfinished_journals_are_cleared_away),
        cmocka_unit_test(fifty_six_devices_take_few_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
