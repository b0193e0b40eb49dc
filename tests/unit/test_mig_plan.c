#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "mig_boards.h"
#include "share/mig_plan.h"

/*
 * A GPU in words: its instances with their starts, behind a slash the compute instances in it with
 * theirs ("-": none), and who holds something: `!` a process, `?` a pod.
 *
 *     "1g.10gb@5! 3g.40gb@0/1c@0,2c@2?"
 */
static void put_ci(struct mig_gpu_instance *gi, const char *word)
{
    static char uuids[16][64];
    static size_t n;
    struct mig_compute_instance *ci = &gi->cis[gi->n_cis];
    uint32_t slices = 0, start = 0;

    if (sscanf(word, "%uc@%u", &slices, &start) != 2)
        slices = mig_gi_profile_slices(gi->gi_profile);
    board_cut(gi, mig_ci_whole(slices), start);
    n = (n + 1) % ARRAY_LEN(uuids);
    snprintf(uuids[n], sizeof(uuids[n]), "MIG-%u-%u", gi->placement.start, start);
    ci->uuid = uuids[n];
    if (strchr(word, '!')) {
        ci->holder = "process 4711 (python3)";
        ci->held_by_process = true;
    }
    if (strchr(word, '?'))
        ci->holder = "pod team-a/train";
}

static void put_gi(struct mig_gpu *gpu, char *word)
{
    char *at = strchr(word, '@'), *cis = strchr(word, '/'), *rest = NULL;

    assert_non_null(at);
    *at = '\0';
    struct mig_gpu_instance *gi = board_put_empty(gpu, word, (uint32_t)atoi(at + 1));
    if (!cis) {
        put_ci(gi, strpbrk(at + 1, "!?") ? strpbrk(at + 1, "!?") : "");
        return;
    }
    for (char *ci = strtok_r(cis + 1, ",", &rest); ci; ci = strtok_r(NULL, ",", &rest))
        if (*ci != '-')
            put_ci(gi, ci);
}

struct desk {
    struct arena arena;
    struct mig_node *node;
    struct mig_gpu *gpu; /* the first */
    struct mig_want wants[MIG_MAX_WANTS];
    struct mig_wish wish;
    struct mig_gpu_plan plan;
};

static void desk_done(struct desk *desk)
{
    arena_done(&desk->arena);
}

/* "off": MIG mode is off; "": it is on and the GPU is empty. */
static void sit_down(struct desk *desk, const char *board, const char *instances)
{
    arena_done(&desk->arena);
    desk->arena = ARENA_MAX(MIB(2));
    desk->node = boards(&desk->arena, board);
    desk->gpu = &desk->node->gpus[0];
    if (text_equal(instances, "off"))
        return;
    char *words = arena_strdup(&desk->arena, instances), *rest = NULL;
    desk->gpu->enabled = desk->gpu->pending = true;
    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        put_gi(desk->gpu, word);
}

/* "1g.10gb:2 3g.40gb:1" */
static void want(struct desk *desk, const char *text)
{
    char *words = arena_strdup(&desk->arena, text), *rest = NULL;
    size_t n = 0;

    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *colon = strchr(word, ':');
        assert_non_null(colon);
        *colon = '\0';
        desk->wants[n].name = word;
        desk->wants[n].count = (uint32_t)strtoul(colon + 1, NULL, 10);
        assert_int_equal(mig_profile_parse(span_of(word), &desk->wants[n++].profile, NULL), 0);
    }
    desk->wish = (struct mig_wish){ .kind = MIG_WISH_DEVICES, .n_wants = n, .wants = desk->wants };
}

static void plan(struct desk *desk)
{
    struct err err = {};

    if (mig_plan_gpu(desk->gpu, &desk->wish, false, &desk->arena, &desk->plan, &err) < 0)
        fail_msg("%s", err.text);
}

/* The plan's steps, separated by a semicolon; checks on the way that they can be walked and lead
 * to what the plan says. */
static const char *told(struct desk *desk)
{
    static char text[4096];
    static struct mig_gpu imagined;
    struct mig_layout layout;
    size_t len = 0;

    imagined = *desk->gpu;
    text[0] = '\0';
    for (size_t i = 0; i < desk->plan.n_steps; i++) {
        struct err err = {};
        char line[160];

        mig_step_describe(desk->gpu, &desk->plan.steps[i], line);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "; " : "", line);
        if (mig_step_imagine(&imagined, &desk->plan.steps[i], &err) < 0)
            fail_msg("%s: %s", line, err.text);
    }
    mig_layout_of(&imagined, &layout);
    assert_true(mig_layout_equal(&layout, &desk->plan.after));
    return text;
}

/* The layout that the plan leads to: "1g.10gb@2 3g.40gb@4/1c@0,1c@1". */
static const char *reached(struct desk *desk)
{
    static char text[2048];
    const struct mig_layout *after = &desk->plan.after;
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < after->n_gis; i++) {
        const struct mig_placed *gi = &after->gis[i];
        const struct mig_gi_profile *profile = mig_gpu_profile(desk->gpu, gi->gi_profile);

        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s@%u", i ? " " : "",
                                profile->name, gi->placement.start);
        for (size_t j = 0; j < gi->n_cis; j++)
            if (mig_ci_profile_slices(gi->cis[j].ci_profile) != profile->slices)
                len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%uc@%u", j ? "," : "/",
                                        mig_ci_profile_slices(gi->cis[j].ci_profile),
                                        gi->cis[j].placement.start);
    }
    return text;
}

#define DESK auto_(desk_done) struct desk desk = {}

/* ---- spec/mig §7.3, the W sides ---- */

static void plans_lead_where_they_should(void **test)
{
    static const struct {
        const char *name, *board, *instances, *wants, *after;
        size_t n_kept, n_moved;
    } rows[] = {
        { "T1", "h100-80gb", "", "1g.10gb:7",
          "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb@6", 0, 0 },
        { "T3", "h100-80gb",
          "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb@6",
          "1g.10gb:2 2g.20gb:1 3g.40gb:1", "2g.20gb@0 1g.10gb@2 1g.10gb@3 3g.40gb@4", 2, 0 },
        { "T5", "h100-80gb",
          "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3! 1g.10gb@4 1g.10gb@5 1g.10gb@6",
          "1g.10gb:2 2g.20gb:1 3g.40gb:1", "2g.20gb@0 1g.10gb@2 1g.10gb@3 3g.40gb@4", 2, 0 },
        { "T6", "a100-40gb", "", "1g.5gb:2 1g.10gb:3",
          "1g.10gb@0 1g.10gb@2 1g.5gb@4 1g.5gb@5 1g.10gb@6", 0, 0 },
        { "T9", "h100-80gb", "1g.10gb@5/-", "1g.10gb:7",
          "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5 1g.10gb@6", 1, 0 },
        { "T9 with one that is in the way", "h100-80gb", "7g.80gb@0/-", "3g.40gb:2",
          "3g.40gb@0 3g.40gb@4", 0, 0 },
        { "T24", "a100-40gb", "", "1c.3g.20gb:3", "3g.20gb@4/1c@0,1c@1,1c@2", 0, 0 },
        { "four of them need a second one", "a100-40gb", "", "1c.3g.20gb:4",
          "3g.20gb@0/1c@0,1c@1,1c@2 3g.20gb@4/1c@0", 0, 0 },
        { "parts of two sizes share one", "a100-40gb", "", "1c.3g.20gb:1 2c.3g.20gb:1",
          "3g.20gb@4/2c@0,1c@2", 0, 0 },
        { "parts and a whole one", "a100-40gb", "", "1c.3g.20gb:1 2c.3g.20gb:1 3g.20gb:1",
          "3g.20gb@0 3g.20gb@4/2c@0,1c@2", 0, 0 },
        { "the place of three slices leaves the pairs free", "h100-80gb", "",
          "3c.7g.80gb:1 2c.7g.80gb:2", "7g.80gb@0/2c@0,2c@2,3c@4", 0, 0 },
        { "T25", "a100-40gb", "", "1c.1g.5gb:7",
          "1g.5gb@0 1g.5gb@1 1g.5gb@2 1g.5gb@3 1g.5gb@4 1g.5gb@5 1g.5gb@6", 0, 0 },
        { "two names of one profile add up", "a100-40gb", "", "1c.1g.5gb:3 1g.5gb:2 01g.005gb:2",
          "1g.5gb@0 1g.5gb@1 1g.5gb@2 1g.5gb@3 1g.5gb@4 1g.5gb@5 1g.5gb@6", 0, 0 },
        { "T27, 40 GB: double memory", "a100-40gb", "", "1g.10gb:4",
          "1g.10gb@0 1g.10gb@2 1g.10gb@4 1g.10gb@6", 0, 0 },
        { "T27, 80 GB: one slice", "a100-80gb", "", "1g.10gb:4",
          "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3", 0, 0 },
        { "room is left for the most", "h100-80gb", "", "3g.40gb:1", "3g.40gb@4", 0, 0 },
        { "of several the one that is wanted stays", "h100-80gb", "3g.40gb@0 1g.10gb@4 2g.20gb@5",
          "1g.10gb:1", "1g.10gb@4", 1, 0 },
        { "one moves so that the rest fits", "h100-80gb", "1g.10gb@0", "4g.40gb:1 1g.10gb:3",
          "4g.40gb@0 1g.10gb@4 1g.10gb@5 1g.10gb@6", 0, 1 },
        { "media engines: one +me on A30", "a30", "1g.6gb+me@0", "2g.12gb+me:1 1g.6gb:2",
          "2g.12gb+me@0 1g.6gb@2 1g.6gb@3", 0, 0 },
        { "all media engines beside none", "rtx-pro-6000", "", "1g.24gb+me.all:1 2g.48gb-me:1",
          "2g.48gb-me@0 1g.24gb+me.all@6", 0, 0 },
        { "an old name", "gb200", "", "1g.24gb:2 7g.189gb:0", "1g.23gb@4 1g.23gb@5", 0, 0 },
        { "nothing wanted", "h100-80gb", "1g.10gb@0 3g.40gb@4", "", "", 0, 0 },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, rows[i].board, rows[i].instances);
        want(&desk, rows[i].wants);
        plan(&desk);
        if (desk.plan.refusal)
            fail_msg("%s: %s", rows[i].name, desk.plan.sentence);
        told(&desk);
        if (!text_equal(reached(&desk), rows[i].after))
            fail_msg("%s: %s", rows[i].name, reached(&desk));
        if (desk.plan.n_kept != rows[i].n_kept || desk.plan.n_moved != rows[i].n_moved)
            fail_msg("%s: %zu kept, %zu moved", rows[i].name, desk.plan.n_kept, desk.plan.n_moved);
    }
}

static void steps_are_those_that_are_needed(void **test)
{
    static const struct {
        const char *board, *instances, *wants, *steps;
    } rows[] = {
        /* T2, T23, T25: it is there already, whatever it is called. */
        { "h100-80gb", "1g.10gb@0 1g.10gb@6", "1g.10gb:2", "" },
        { "a100-40gb", "1g.5gb@0", "1g.5gb:1 2g.10gb:0", "" },
        { "a100-40gb", "1g.5gb@0", "1c.1g.5gb:1", "" },
        { "a100-40gb", "2g.10gb@2", "02g.010gb:1", "" },
        { "a100-40gb", "3g.20gb@4/1c@0,1c@1 3g.20gb@0/1c@2", "1c.3g.20gb:3", "" },
        /* Somebody who asks in the same words as the driver gets what the driver makes. */
        { "h100-80gb", "", "1g.20gb:1", "create GPU instance 1g.20gb at 6; create 1g.20gb at 6" },
        { "h100-80gb", "off", "7g.80gb:1",
          "switch MIG mode on; create GPU instance 7g.80gb at 0; create 7g.80gb at 0" },
        { "a100-40gb", "off", "7g.40gb:1",
          "switch MIG mode on; reset the GPU if the mode waits for it; create GPU instance 7g.40gb "
          "at 0; create 7g.40gb at 0" },
        { "h100-80gb", "7g.80gb@0", "4g.40gb:1",
          "destroy 7g.80gb at 0 (MIG-0-0); destroy GPU instance 7g.80gb at 0; create GPU instance "
          "4g.40gb at 0; create 4g.40gb at 0" },
        /* Only what is in it changes. */
        { "a100-40gb", "3g.20gb@4", "1c.3g.20gb:1 2c.3g.20gb:1",
          "destroy 3g.20gb at 4 (MIG-4-0); create 2c.3g.20gb at 4, slice 0; create 1c.3g.20gb at "
          "4, slice 2" },
        { "a100-40gb", "3g.20gb@4/1c@1", "1c.3g.20gb:3",
          "create 1c.3g.20gb at 4, slice 0; create 1c.3g.20gb at 4, slice 2" },
        { "a100-40gb", "3g.20gb@4/-", "3g.20gb:1", "create 3g.20gb at 4" },
        /* A part in the way of another goes, unless somebody holds it. */
        { "a100-40gb", "3g.20gb@4/1c@0", "1c.3g.20gb:1 2c.3g.20gb:1",
          "destroy 1c.3g.20gb at 4, slice 0 (MIG-4-0); create 2c.3g.20gb at 4, slice 0; create "
          "1c.3g.20gb at 4, slice 2" },
        { "a100-40gb", "3g.20gb@4/1c@0!", "1c.3g.20gb:1 2c.3g.20gb:1",
          "create GPU instance 3g.20gb at 0; create 2c.3g.20gb at 0, slice 0" },
        /* Parts stay where they are rather than being put together. */
        { "a100-40gb", "3g.20gb@0/1c@0 3g.20gb@4/1c@0", "1c.3g.20gb:3",
          "create 1c.3g.20gb at 0, slice 1" },
        /* Of those in the way only the ones that are. */
        { "a100-40gb", "7g.40gb@0/1c@1,1c@5", "1c.7g.40gb:2 4c.7g.40gb:1",
          "destroy 1c.7g.40gb at 0, slice 1 (MIG-0-1); create 4c.7g.40gb at 0, slice 0; create "
          "1c.7g.40gb at 0, slice 4" },
        /* What nobody sees is no reason for a change, but goes with one. */
        { "a100-40gb", "1g.5gb@0 2g.10gb@2/-", "1g.5gb:1", "" },
        { "a100-40gb", "1g.5gb@0 2g.10gb@2/-", "1g.5gb:2",
          "destroy GPU instance 2g.10gb at 2; create GPU instance 1g.5gb at 1; create 1g.5gb at "
          "1" },
        /* An instance of which nothing stays does not stay for its own sake. */
        { "a100-40gb", "3g.20gb@0 3g.20gb@4", "1c.3g.20gb:3",
          "destroy 3g.20gb at 0 (MIG-0-0); destroy GPU instance 3g.20gb at 0; destroy 3g.20gb at 4 "
          "(MIG-4-0); create 1c.3g.20gb at 4, slice 0; create 1c.3g.20gb at 4, slice 1; create "
          "1c.3g.20gb at 4, slice 2" },
        /* Of two that could stay, the one whose device is wanted. */
        { "a100-40gb", "3g.20gb@0 3g.20gb@4/1c@0,1c@1,1c@2", "3g.20gb:1",
          "destroy 1c.3g.20gb at 4, slice 0 (MIG-4-0); destroy 1c.3g.20gb at 4, slice 1 (MIG-4-1); "
          "destroy 1c.3g.20gb at 4, slice 2 (MIG-4-2); destroy GPU instance 3g.20gb at 4" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, rows[i].board, rows[i].instances);
        want(&desk, rows[i].wants);
        plan(&desk);
        if (desk.plan.refusal)
            fail_msg("%s: %s", rows[i].wants, desk.plan.sentence);
        assert_string_equal(told(&desk), rows[i].steps);
        assert_int_equal(mig_wish_met(desk.gpu, &desk.wish), rows[i].steps[0] == '\0');
    }
}

static void refusals_say_who_is_in_the_way_and_what_would_do(void **test)
{
    static const struct {
        const char *board, *instances, *wants;
        enum mig_refusal refusal;
        const char *sentence, *blocker;
    } rows[] = {
        /* T4 */
        { "h100-80gb", "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 1g.10gb@4 1g.10gb@5! 1g.10gb@6",
          "1g.10gb:2 2g.20gb:1 3g.40gb:1", MIG_REFUSED_HELD,
          "GPU 0: 2 × 1g.10gb + 1 × 2g.20gb + 1 × 3g.40gb needs the place of 1g.10gb@5 (MIG-5-0), "
          "which process 4711 (python3) holds; with it staying there would be room for 3 × 1g.10gb "
          "+ 1 × 3g.40gb, or 3 × 1g.10gb + 2 × 2g.20gb",
          "1g.10gb@5 (MIG-5-0), held by process 4711 (python3)" },
        /* T7 */
        { "a100-40gb", "1g.5gb@0", "1g.10gb:5 2g.20gb:1", MIG_REFUSED_UNKNOWN,
          "GPU 0: NVIDIA A100-SXM4-40GB has no MIG profile 2g.20gb; it has 1g.5gb, 2g.10gb, "
          "3g.20gb, 4g.20gb, 7g.40gb, 1g.5gb+me, 1g.10gb",
          NULL },
        /* T8 */
        { "h100-80gb", "", "1g.10gb:8", MIG_REFUSED_NO_ROOM,
          "GPU 0: 8 × 1g.10gb cannot be together on NVIDIA H100 80GB HBM3; there would be room for "
          "7 × 1g.10gb",
          NULL },
        { "h100-80gb", "", "3g.40gb:2 1g.10gb:1", MIG_REFUSED_NO_ROOM,
          "GPU 0: 1 × 1g.10gb + 2 × 3g.40gb cannot be together on NVIDIA H100 80GB HBM3; there "
          "would be room for 2 × 3g.40gb, or 4 × 1g.10gb + 1 × 3g.40gb",
          NULL },
        { "h100-80gb", "", "1g.10gb:5000 1c.1g.10gb:2147483647", MIG_REFUSED_NO_ROOM,
          "GPU 0: 2147488647 × 1g.10gb cannot be together on NVIDIA H100 80GB HBM3; there would be "
          "room for 7 × 1g.10gb",
          NULL },
        { "h100-80gb", "", "1c.7g.80gb:4000000000", MIG_REFUSED_NO_ROOM,
          "GPU 0: 4000000000 × 1c.7g.80gb cannot be together on NVIDIA H100 80GB HBM3; there would "
          "be room for 7 × 1c.7g.80gb",
          NULL },
        { "t4", "off", "1g.10gb:1", MIG_REFUSED_NOT_CAPABLE, "GPU 0: Tesla T4 cannot do MIG",
          NULL },
        { "a100-40gb", "", "3c.4g.20gb:1", MIG_REFUSED_UNKNOWN,
          "GPU 0: 4g.20gb has no compute instances of 3 slices; it has 1c.4g.20gb, 2c.4g.20gb, "
          "4g.20gb",
          NULL },
        { "a100-40gb", "", "1g.5gb+me:2", MIG_REFUSED_NO_ROOM,
          "GPU 0: 2 × 1g.5gb+me cannot be together on NVIDIA A100-SXM4-40GB; there would be room "
          "for 1 × 1g.5gb+me",
          NULL },
        { "a30", "", "1g.6gb+me:1 2g.12gb+me:1", MIG_REFUSED_NO_ROOM,
          "GPU 0: 1 × 1g.6gb+me + 1 × 2g.12gb+me cannot be together on NVIDIA A30; there would be "
          "room for 1 × 2g.12gb+me, or 1 × 1g.6gb+me",
          NULL },
        { "rtx-pro-6000", "", "1g.24gb+me.all:1 1g.24gb:1", MIG_REFUSED_NO_ROOM,
          "GPU 0: 1 × 1g.24gb + 1 × 1g.24gb+me.all cannot be together on NVIDIA RTX PRO 6000 "
          "Blackwell Server Edition; there would be room for 4 × 1g.24gb, or 1 × 1g.24gb+me.all",
          NULL },
        { "a100-40gb", "", "1c.3g.20gb:7", MIG_REFUSED_NO_ROOM,
          "GPU 0: 7 × 1c.3g.20gb cannot be together on NVIDIA A100-SXM4-40GB; there would be room "
          "for 6 × 1c.3g.20gb",
          NULL },
        /* What is held has room beside the wish, but is not part of it. */
        { "h100-80gb", "3g.40gb@4! 1g.10gb@0", "1g.10gb:2", MIG_REFUSED_HELD,
          "GPU 0: 2 × 1g.10gb does not include 3g.40gb@4 (MIG-4-0), which process 4711 (python3) "
          "holds; with it staying there would be room for 2 × 1g.10gb + 1 × 3g.40gb",
          "3g.40gb@4 (MIG-4-0), held by process 4711 (python3)" },
        { "h100-80gb", "1g.10gb@0! 1g.10gb@5?", "7g.80gb:1", MIG_REFUSED_HELD,
          "GPU 0: 1 × 7g.80gb needs the place of 1g.10gb@0 (MIG-0-0), which process 4711 (python3) "
          "holds, and of 1 more that is held; with them staying there would be room for 4 × "
          "1g.10gb + 1 × 2g.20gb + 1 × 1g.20gb",
          "1g.10gb@0 (MIG-0-0), held by process 4711 (python3)" },
        /* Who is held and not in the way is not named. */
        { "h100-80gb", "1g.10gb@2! 1g.10gb@5!", "1g.10gb:2 4g.40gb:1", MIG_REFUSED_HELD,
          "GPU 0: 2 × 1g.10gb + 1 × 4g.40gb needs the place of 1g.10gb@2 (MIG-2-0), which process "
          "4711 (python3) holds; with it staying there would be room for 7 × 1g.10gb",
          "1g.10gb@2 (MIG-2-0), held by process 4711 (python3)" },
        { "h100-80gb", "1g.10gb@0?", "7g.80gb:1", MIG_REFUSED_HELD,
          "GPU 0: 1 × 7g.80gb needs the place of 1g.10gb@0 (MIG-0-0), which pod team-a/train "
          "holds; "
          "with it staying there would be room for 2 × 1g.10gb + 1 × 2g.20gb + 1 × 3g.40gb",
          "1g.10gb@0 (MIG-0-0), held by pod team-a/train" },
        { "h100-80gb", "1g.10gb@0!", "", MIG_REFUSED_HELD,
          "GPU 0: it cannot be emptied: process 4711 (python3) holds 1g.10gb@0 (MIG-0-0); stop it "
          "first",
          "1g.10gb@0 (MIG-0-0), held by process 4711 (python3)" },
        { "h100-80gb", "3g.40gb@0/1c@0!,1c@1", "3g.40gb:2", MIG_REFUSED_HELD,
          "GPU 0: 2 × 3g.40gb needs the place of 1c.3g.40gb@0 (MIG-0-0), which process 4711 "
          "(python3) holds; with it staying there would be room for 1 × 1c.3g.40gb + 1 × 3g.40gb",
          "1c.3g.40gb@0 (MIG-0-0), held by process 4711 (python3)" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, rows[i].board, rows[i].instances);
        want(&desk, rows[i].wants);
        plan(&desk);
        assert_int_equal(desk.plan.refusal, rows[i].refusal);
        assert_string_equal(desk.plan.sentence, rows[i].sentence);
        assert_int_equal(desk.plan.n_steps, 0);
        assert_true(mig_layout_equal(&desk.plan.before, &desk.plan.after));
        if (rows[i].blocker)
            assert_string_equal(desk.plan.blocker, rows[i].blocker);
        else
            assert_null(desk.plan.blocker);
        assert_false(mig_wish_met(desk.gpu, &desk.wish));
    }
}

/* ---- modes ---- */

static void mode_changes_only_where_it_must(void **test)
{
    static const struct {
        const char *board, *instances;
        int pending; /* -1: as it is */
        bool on;
        const char *steps;
    } rows[] = {
        { "h100-80gb", "off", -1, true, "switch MIG mode on" },
        { "h100-80gb", "off", -1, false, "" },
        { "h100-80gb", "1g.10gb@0", -1, true, "" },
        { "h100-80gb", "", -1, false, "switch MIG mode off" },
        { "h100-80gb", "1g.10gb@0 3g.40gb@4/-", -1, false,
          "destroy 1g.10gb at 0 (MIG-0-0); destroy GPU instance 1g.10gb at 0; destroy GPU instance "
          "3g.40gb at 4; switch MIG mode off" },
        { "a100-40gb", "off", -1, true,
          "switch MIG mode on; reset the GPU if the mode waits for it" },
        { "a100-40gb", "", -1, false,
          "switch MIG mode off; reset the GPU if the mode waits for it" },
        /* What waits for a reset already; and what is taken back needs none. */
        { "a100-40gb", "off", true, true,
          "switch MIG mode on; reset the GPU if the mode waits for it" },
        { "a100-40gb", "off", true, false, "switch MIG mode off" },
        { "a100-40gb", "1g.5gb@0", false, true, "switch MIG mode on" },
        { "h100-80gb", "off", true, true, "switch MIG mode on" },
        { "t4", "off", -1, false, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, rows[i].board, rows[i].instances);
        if (rows[i].pending >= 0)
            desk.gpu->pending = rows[i].pending;
        desk.wish = (struct mig_wish){ .kind = MIG_WISH_MODE, .enabled = rows[i].on };
        plan(&desk);
        assert_null(desk.plan.sentence);
        assert_string_equal(told(&desk), rows[i].steps);
        assert_int_equal(desk.plan.after.enabled, rows[i].on);
    }
}

static void mode_stays_while_somebody_is_in_the_way(void **test)
{
    static const struct {
        const char *board, *instances, *holder;
        enum mig_wish_kind kind;
        bool on;
        enum mig_refusal refusal;
        const char *sentence;
    } rows[] = {
        { "h100-80gb", "off", "process 7 (dcgm)", MIG_WISH_MODE, true, MIG_REFUSED_HELD,
          "a.yaml:7:9: GPU 0: MIG mode cannot be switched on while process 7 (dcgm) holds the GPU; "
          "stop it first" },
        { "h100-80gb", "off", "process 7 (dcgm)", MIG_WISH_DEVICES, true, MIG_REFUSED_HELD,
          "a.yaml:7:9: GPU 0: MIG mode cannot be switched on while process 7 (dcgm) holds the GPU; "
          "stop it first" },
        { "h100-80gb", "1g.10gb@0! 1g.10gb@1 2g.20gb@2?", NULL, MIG_WISH_MODE, false,
          MIG_REFUSED_HELD,
          "a.yaml:7:9: GPU 0: MIG mode cannot be switched off: process 4711 (python3) holds "
          "1g.10gb@0 (MIG-0-0), and 1 more is held; stop them first" },
        { "t4", "off", NULL, MIG_WISH_MODE, true, MIG_REFUSED_NOT_CAPABLE,
          "a.yaml:7:9: GPU 0: Tesla T4 cannot do MIG" },
        /* Off it is already, whoever uses it. */
        { "h100-80gb", "off", "process 7 (dcgm)", MIG_WISH_MODE, false, MIG_REFUSED_NOT, NULL },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, rows[i].board, rows[i].instances);
        want(&desk, "7g.80gb:1");
        desk.gpu->holder = rows[i].holder;
        desk.wish.kind = rows[i].kind;
        desk.wish.enabled = rows[i].on;
        desk.wish.where = "a.yaml:7:9";
        plan(&desk);
        assert_int_equal(desk.plan.refusal, rows[i].refusal);
        if (rows[i].sentence)
            assert_string_equal(desk.plan.sentence, rows[i].sentence);
        assert_int_equal(desk.plan.n_steps, 0);
    }
}

static void pods_may_be_stopped_but_no_process(void **test)
{
    static const struct {
        const char *instances;
        bool may_stop_pods;
        enum mig_refusal refusal;
    } rows[] = {
        { "1g.10gb@0?", false, MIG_REFUSED_HELD },
        { "1g.10gb@0?", true, MIG_REFUSED_NOT },
        { "1g.10gb@0!", false, MIG_REFUSED_HELD },
        { "1g.10gb@0!", true, MIG_REFUSED_HELD },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, "h100-80gb", rows[i].instances);
        want(&desk, "7g.80gb:1");
        assert_int_equal(mig_plan_gpu(desk.gpu, &desk.wish, rows[i].may_stop_pods, &desk.arena,
                                      &desk.plan, NULL),
                         0);
        assert_int_equal(desk.plan.refusal, rows[i].refusal);
    }
}

static void whole_gpu_of_a_pod_is_like_one_of_a_process_until_pods_may_be_stopped(void **test)
{
    DESK;

    sit_down(&desk, "h100-80gb", "off");
    assert_true(mig_node_hold(desk.node, desk.gpu->uuid, "pod a/b"));
    want(&desk, "7g.80gb:1");
    plan(&desk);
    assert_string_equal(desk.plan.blocker, "the GPU, held by pod a/b");
    assert_int_equal(mig_plan_gpu(desk.gpu, &desk.wish, true, &desk.arena, &desk.plan, NULL), 0);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_NOT);
}

static void gpu_that_cannot_be_read_is_left_alone(void **test)
{
    DESK;

    sit_down(&desk, "h100-80gb", "1g.10gb@0");
    desk.gpu->problem = "it fell off the bus";
    want(&desk, "1g.10gb:1");
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_UNREADABLE);
    assert_string_equal(desk.plan.sentence, "GPU 0: it fell off the bus");
    assert_false(mig_wish_met(desk.gpu, &desk.wish));
    desk.wish.kind = MIG_WISH_NOTHING;
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_NOT);
    assert_int_equal(desk.plan.n_steps, 0);
}

static void driver_that_hides_its_profiles_is_named(void **test)
{
    DESK;

    sit_down(&desk, "h100-80gb", "off");
    want(&desk, "1g.10gb:1");
    desk.gpu->n_profiles = 0;
    plan(&desk);
    assert_string_equal(desk.plan.sentence,
                        "GPU 0: NVIDIA H100 80GB HBM3 has no MIG profile 1g.10gb: the driver tells "
                        "of none while MIG mode is off");
    sit_down(&desk, "h100-80gb", "");
    desk.gpu->profiles[0].n_placements = 0;
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_UNKNOWN);
    assert_string_equal(desk.plan.sentence,
                        "GPU 0: the driver does not tell where 1g.10gb could be placed");
}

/* ---- exactly this layout ---- */

/* The layout of a board in words; `forget`: without the places of compute instances, as in a
 * checkpoint. */
static void lay_out(const char *board, const char *instances, bool forget, struct mig_layout *ret)
{
    DESK;

    sit_down(&desk, board, instances);
    mig_layout_of(desk.gpu, ret);
    for (size_t i = 0; forget && i < ret->n_gis; i++)
        for (size_t j = 0; j < ret->gis[i].n_cis; j++)
            ret->gis[i].cis[j].placement = (struct mig_placement){};
}

static void layouts_are_reached_exactly(void **test)
{
    static const struct {
        const char *instances, *wanted;
        bool forget;
        const char *steps;
    } rows[] = {
        /* T30 */
        { "off", "1g.5gb@0 2g.10gb@4 1g.5gb@6", false,
          "switch MIG mode on; reset the GPU if the mode waits for it; create GPU instance 1g.5gb "
          "at 0; create 1g.5gb at 0; create GPU instance 2g.10gb at 4; create 2g.10gb at 4; create "
          "GPU instance 1g.5gb at 6; create 1g.5gb at 6" },
        { "1g.5gb@0", "off", false,
          "destroy 1g.5gb at 0 (MIG-0-0); destroy GPU instance 1g.5gb at 0; switch MIG mode off; "
          "reset the GPU if the mode waits for it" },
        { "1g.5gb@0", "1g.5gb@1", false,
          "destroy 1g.5gb at 0 (MIG-0-0); destroy GPU instance 1g.5gb at 0; create GPU instance "
          "1g.5gb at 1; create 1g.5gb at 1" },
        { "1g.5gb@0", "1g.5gb@0/-", false, "destroy 1g.5gb at 0 (MIG-0-0)" },
        { "3g.20gb@0/1c@1", "3g.20gb@0/1c@0", false,
          "destroy 1c.3g.20gb at 0, slice 1 (MIG-0-1); create 1c.3g.20gb at 0, slice 0" },
        { "3g.20gb@0/1c@1", "3g.20gb@0/1c@0", true, "" },
        { "3g.20gb@0/1c@1", "3g.20gb@0/1c@0,1c@2", true, "create 1c.3g.20gb at 0, slice 0" },
        /* What is there is in the way of what has no place yet. */
        { "3g.20gb@0/1c@0", "3g.20gb@0/2c@0,1c@2", true,
          "destroy 1c.3g.20gb at 0, slice 0 (MIG-0-0); create 2c.3g.20gb at 0, slice 0; create "
          "1c.3g.20gb at 0, slice 2" },
        { "7g.40gb@0/1c@0!", "7g.40gb@0/3c@4,2c@2,1c@0", true,
          "create 2c.7g.40gb at 0, slice 2; create 3c.7g.40gb at 0, slice 4" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;
        struct mig_layout layout;

        lay_out("a100-40gb", rows[i].wanted, rows[i].forget, &layout);
        sit_down(&desk, "a100-40gb", rows[i].instances);
        desk.wish = (struct mig_wish){ .kind = MIG_WISH_LAYOUT, .layout = &layout };
        plan(&desk);
        if (desk.plan.refusal)
            fail_msg("%s: %s", rows[i].wanted, desk.plan.sentence);
        assert_string_equal(told(&desk), rows[i].steps);
        assert_true(mig_layout_equal(&desk.plan.after, &layout));
        assert_int_equal(mig_wish_met(desk.gpu, &desk.wish), rows[i].steps[0] == '\0');
    }
}

static void layouts_that_cannot_be_are_refused(void **test)
{
    struct {
        const char *instances;
        struct mig_layout layout;
        enum mig_refusal refusal;
        const char *sentence;
    } rows[] = {
        { "",
          { true, 1, { { 2, { 2, 4 } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@2 cannot be: no 3g.20gb can be at 2" },
        { "",
          { true, 1, { { 2, { 0, 2 } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@0 cannot be: no 3g.20gb can be at 0" },
        { "",
          { true, 2, { { 2, { 0, 4 } }, { 0, { 3, 1 } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@0 + 1g.5gb@3 cannot be: 1g.5gb at 3 and another are in one place" },
        { "",
          { true, 2, { { 7, { 0, 1 } }, { 7, { 1, 1 } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 1g.5gb+me@0 + 1g.5gb+me@1 cannot be: that is more than the GPU's slices and "
          "engines are enough for" },
        { "",
          { true, 1, { { 13, { 0, 1 } } } },
          MIG_REFUSED_UNKNOWN,
          "GPU 0: NVIDIA A100-SXM4-40GB has no GPU instance profile 13" },
        { "",
          { true, 1, { { 2, { 0, 4 }, 1, { { 3, {} } } } } },
          MIG_REFUSED_UNKNOWN,
          "GPU 0: 3g.20gb has no compute instance profile 3" },
        { "",
          { true, 1, { { 2, { 0, 4 }, 2, { { 1, { 0, 2 } }, { 0, { 1, 1 } } } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@0 cannot be: two compute instances in 3g.20gb are in one place" },
        { "",
          { true, 1, { { 2, { 0, 4 }, 1, { { 1, { 1, 2 } } } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@0 cannot be: no compute instance of 2 slices can be at 1 of 3g.20gb" },
        { "",
          { true, 1, { { 2, { 0, 4 }, 2, { { 1, {} }, { 1, {} } } } } },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 3g.20gb@0 cannot be: the compute instances wanted in 3g.20gb do not fit into "
          "it" },
        { "",
          { .enabled = true, .n_gis = 9 },
          MIG_REFUSED_NO_ROOM,
          "GPU 0: 1g.5gb@0 + 1g.5gb@0 + 1g.5gb@0 + 1g.5gb@0 + 1g.5gb@0 + 1g.5gb@0 + 1g.5gb@0 + "
          "1g.5gb@0 + 1g.5gb@0 cannot be: a GPU has at most 8 GPU instances, not 9" },
        { "1g.5gb@0!",
          { true, 1, { { 0, { 1, 1 }, 1, { { 0, { 0, 1 } } } } } },
          MIG_REFUSED_HELD,
          "GPU 0: 1g.5gb@1 does not include 1g.5gb@0 (MIG-0-0), which process 4711 (python3) "
          "holds; with it staying there would be room for 1 × 1g.5gb" },
        { "1g.5gb@0! 1g.5gb@5!",
          { true, 1, { { 0, { 5, 1 }, 1, { { 0, { 0, 1 } } } } } },
          MIG_REFUSED_HELD,
          "GPU 0: 1g.5gb@5 does not include 1g.5gb@0 (MIG-0-0), which process 4711 (python3) "
          "holds; with it staying there would be room for 2 × 1g.5gb" },
        { "1g.5gb@0! 1g.5gb@1!",
          { true, 1, { { 2, { 0, 4 }, 1, { { 2, { 0, 3 } } } } } },
          MIG_REFUSED_HELD,
          "GPU 0: 3g.20gb@0 needs the place of 1g.5gb@0 (MIG-0-0), which process 4711 (python3) "
          "holds, and of 1 more that is held; with them staying there would be room for 2 × 1g.5gb "
          "+ 1 × 3g.20gb" },
        { "1g.5gb@0!",
          { .enabled = true },
          MIG_REFUSED_HELD,
          "GPU 0: it cannot be emptied: process 4711 (python3) holds 1g.5gb@0 (MIG-0-0); stop it "
          "first" },
        { "1g.5gb@0!",
          {},
          MIG_REFUSED_HELD,
          "GPU 0: MIG mode cannot be switched off: process 4711 (python3) holds 1g.5gb@0 "
          "(MIG-0-0); stop it first" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, "a100-40gb", rows[i].instances);
        desk.wish = (struct mig_wish){ .kind = MIG_WISH_LAYOUT, .layout = &rows[i].layout };
        plan(&desk);
        assert_int_equal(desk.plan.refusal, rows[i].refusal);
        assert_string_equal(desk.plan.sentence, rows[i].sentence);
        assert_int_equal(desk.plan.n_steps, 0);
    }
}

/* ---- what a driver does not tell, and what it should not ---- */

static void compute_instances_without_a_place_stay_and_others_find_theirs(void **test)
{
    DESK;

    sit_down(&desk, "a100-40gb", "3g.20gb@4/1c@0");
    desk.gpu->gis[0].cis[0].placement = (struct mig_placement){};
    want(&desk, "1c.3g.20gb:2");
    plan(&desk);
    assert_string_equal(told(&desk), "create 1c.3g.20gb at 4");
    want(&desk, "1c.3g.20gb:1 2c.3g.20gb:1");
    plan(&desk);
    assert_int_equal(desk.plan.n_steps, 3);
}

static void mini_quarter_counts_as_one_slice_and_takes_two(void **test)
{
    enum { REV1 = 7 };
    DESK;

    sit_down(&desk, "h100-80gb", "2g.20gb@4/-");
    board_cut(&desk.gpu->gis[0], REV1, 0);
    desk.gpu->gis[0].cis[0].placement.size = 2;
    want(&desk, "1c.2g.20gb:1");
    plan(&desk);
    assert_string_equal(told(&desk), "");
    want(&desk, "1c.2g.20gb:2"); /* nothing has room beside it */
    plan(&desk);
    assert_string_equal(told(&desk), "destroy 1c.2g.20gb at 4; create 1c.2g.20gb at 4, slice 0; "
                                     "create 1c.2g.20gb at 4, slice 1");
}

static void unknown_instances_go_unless_they_are_held(void **test)
{
    DESK;

    sit_down(&desk, "h100-80gb", "1g.10gb@0");
    desk.gpu->gis[0].gi_profile = 40;
    want(&desk, "1g.10gb:7");
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_NOT);
    assert_int_equal(desk.plan.n_destroyed, 1);
    desk.gpu->gis[0].cis[0].held_by_process = true;
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_HELD);
    assert_string_equal(desk.plan.blocker, "profile 40@0 (MIG-0-0), held by a process");
}

/* On real boards most of them follow from the places. */
static void each_limit_binds_on_its_own(void **test)
{
    static const struct {
        uint32_t slices, max, size;
        const char *wants;
        enum mig_refusal refusal;
    } rows[] = {
        { 7, 7, 1, "1g.10gb:7", MIG_REFUSED_NOT },
        { 3, 7, 1, "1g.10gb:3", MIG_REFUSED_NOT },
        { 3, 7, 1, "1g.10gb:4", MIG_REFUSED_NO_ROOM },
        { 7, 2, 1, "1g.10gb:2", MIG_REFUSED_NOT },
        { 7, 2, 1, "1g.10gb:3", MIG_REFUSED_NO_ROOM },
        { 9, 9, 1, "1g.10gb:8", MIG_REFUSED_NOT }, /* the driver makes no more than eight */
        { 9, 9, 1, "1g.10gb:9", MIG_REFUSED_NO_ROOM },
        { 7, 7, 2, "1g.10gb:4", MIG_REFUSED_NOT }, /* no two in one place */
        { 7, 7, 2, "1g.10gb:6", MIG_REFUSED_NO_ROOM },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;
        struct mig_gi_profile *profile;

        sit_down(&desk, "h100-80gb", "");
        profile = &desk.gpu->profiles[0];
        desk.gpu->slices = rows[i].slices;
        desk.gpu->memory_slices = 10;
        profile->max_instances = rows[i].max;
        profile->n_placements = 9;
        for (uint32_t j = 0; j < 9; j++)
            profile->placements[j] = (struct mig_placement){ j, rows[i].size };
        want(&desk, rows[i].wants);
        plan(&desk);
        if (desk.plan.refusal != rows[i].refusal)
            fail_msg("row %zu: %d", i, desk.plan.refusal);
    }
}

/* As many profiles, places, instances and wishes as the structs have room for. */
static void no_board_however_strange_makes_it_run_away(void **test)
{
    DESK;
    struct mig_gpu *gpu;

    sit_down(&desk, "h100-80gb", "");
    gpu = desk.gpu;
    gpu->slices = 1000;
    gpu->memory_slices = MIG_MAX_MEMORY_SLICES;
    gpu->n_profiles = MIG_MAX_GI_PROFILES;
    for (uint32_t i = 0; i < MIG_MAX_GI_PROFILES; i++) {
        struct mig_gi_profile *profile = &gpu->profiles[i];

        *profile = (struct mig_gi_profile){
            .gi_profile = i,
            .slices = 7,
            .max_instances = 4000000000,
            .profile = { 7, 7, 100 + i, 0 },
            .name = "x",
            .n_placements = MIG_MAX_PLACEMENTS,
        };
        for (uint32_t j = 0; j < MIG_MAX_PLACEMENTS; j++)
            profile->placements[j] = (struct mig_placement){ j * 2 + i % 2, 2 + i % 3 };
    }
    for (uint32_t i = 0; i < MIG_MAX_WANTS; i++) {
        desk.wants[i] = (struct mig_want){ "x", { 1 + i / 32 % 4, 7, 100 + i % 32, 0 }, 1 };
        desk.wants[i].count = i % 3 == 0 ? 4000000000 : i % 3;
    }
    for (size_t n = 1; n <= MIG_MAX_WANTS; n++) {
        desk.wish = (struct mig_wish){ .kind = MIG_WISH_DEVICES,
                                       .n_wants = n,
                                       .wants = desk.wants + MIG_MAX_WANTS - n };
        plan(&desk);
    }
    for (uint32_t i = 0; i < 8; i++)
        gpu->gis[gpu->n_gis++] =
            (struct mig_gpu_instance){ .gi_profile = i,
                                       .placement = { i * 4 + i % 2, 2 + i % 3 },
                                       .n_cis = 1,
                                       .cis = { { .ci_profile = 0, .placement = { 0, 1 } } } };
    for (size_t n = 1; n <= MIG_MAX_WANTS; n++) {
        desk.wish =
            (struct mig_wish){ .kind = MIG_WISH_DEVICES, .n_wants = n, .wants = desk.wants };
        for (size_t i = 0; i < n; i++)
            desk.wants[i].count = 1 + (uint32_t)(i * n % 2);
        plan(&desk);
    }
    gpu->n_gis = MIG_MAX_GPU_INSTANCES;
    plan(&desk);
    assert_int_equal(desk.plan.refusal, MIG_REFUSED_UNREADABLE);
}

static void lack_of_memory_is_an_error_and_no_half_plan(void **test)
{
    static const char *const wants[] = { "7g.80gb:1", "3g.40gb:1 1g.10gb:1", "1g.99gb:1", "" };
    DESK;

    sit_down(&desk, "h100-80gb", "1g.10gb@0! 1g.10gb@1");
    for (size_t i = 0; i < ARRAY_LEN(wants); i++) {
        auto_(arena_done) struct arena none = ARENA_MAX(1);
        struct mig_gpu_plan untouched = { .n_moved = 4711 };
        struct err err = {};

        want(&desk, wants[i]);
        assert_int_equal(mig_plan_gpu(desk.gpu, &desk.wish, false, &none, &untouched, &err),
                         -ENOMEM);
        assert_int_equal(err.code, ENOMEM);
        assert_int_equal(untouched.n_moved, 4711);
    }
}

/* ---- nodes ---- */

/* One configuration, seven GPUs: each on its own terms (T10, T13, T14, T27). */
static void each_gpu_of_a_mixed_node_is_planned_for_itself(void **test)
{
    static const struct {
        enum mig_refusal refusal;
        size_t n_created, n_kept;
    } wanted[] = {
        { MIG_REFUSED_NOT, 4, 0 },   /* A100-40: double memory */
        { MIG_REFUSED_NOT, 3, 1 },   /* A100-80: one of them is there */
        { MIG_REFUSED_NOT_CAPABLE }, /* T4 */
        { MIG_REFUSED_NOT, 0, 4 },   /* H100: all of them are */
        { MIG_REFUSED_UNKNOWN },     /* A30: 1g.6gb */
    };
    DESK;

    sit_down(&desk, "a100-40gb,a100-80gb,t4,h100-80gb,a30", "off");
    board_put(&desk.node->gpus[1], "1g.10gb", 5);
    for (uint32_t i = 0; i < 4; i++)
        board_put(&desk.node->gpus[3], "1g.10gb", i + 3);
    want(&desk, "1g.10gb:4");
    for (size_t i = 0; i < desk.node->n_gpus; i++) {
        desk.gpu = &desk.node->gpus[i];
        plan(&desk);
        assert_int_equal(desk.plan.refusal, wanted[i].refusal);
        assert_int_equal(desk.plan.n_created, wanted[i].n_created);
        assert_int_equal(desk.plan.n_kept, wanted[i].n_kept);
        assert_int_equal(desk.plan.n_steps == 0, wanted[i].n_created == 0);
        told(&desk);
    }
}

/* ---- layouts and steps by themselves ---- */

static void layouts_are_compared_by_what_is_where(void **test)
{
    static const struct {
        const char *a, *b;
        bool forget, equal;
    } rows[] = {
        { "1g.5gb@0 3g.20gb@4", "3g.20gb@4 1g.5gb@0", false, true },
        { "1g.5gb@0", "1g.5gb@1", false, false },
        { "1g.5gb@0", "1g.5gb+me@0", false, false },
        { "1g.5gb@0", "1g.5gb@0/-", false, false },
        { "1g.5gb@0", "", false, false },
        { "off", "", false, false },
        { "3g.20gb@0/1c@0,1c@1", "3g.20gb@0/1c@1,1c@0", false, true },
        { "3g.20gb@0/1c@0,1c@1", "3g.20gb@0/1c@0,1c@2", false, false },
        { "3g.20gb@0/1c@0,1c@1", "3g.20gb@0/1c@0,1c@2", true, true },
        { "3g.20gb@0/1c@0,1c@1", "3g.20gb@0/1c@0,2c@0", true, false },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct mig_layout a, b;

        lay_out("a100-40gb", rows[i].a, false, &a);
        lay_out("a100-40gb", rows[i].b, rows[i].forget, &b);
        assert_int_equal(mig_layout_equal(&a, &b), rows[i].equal);
        assert_int_equal(mig_layout_equal(&b, &a), rows[i].equal);
    }
}

static void wishes_are_met_by_names_alone(void **test)
{
    static const struct {
        const char *instances, *wants;
        bool met;
    } rows[] = {
        { "1g.5gb@0 1g.5gb@5", "1g.5gb:2", true },
        { "1g.5gb@0 1g.5gb@5", "1g.5gb:1 1c.1g.5gb:1", true },
        { "1g.5gb@0 1g.5gb@5", "1g.5gb:1", false },
        { "1g.5gb@0 1g.5gb@5", "1g.5gb:3", false },
        { "1g.5gb@0 2g.10gb@2", "1g.5gb:1", false },
        { "1g.5gb@0 2g.10gb@2/-", "1g.5gb:1", true }, /* invisible, as to everybody */
        { "1g.10gb@0", "2g.10gb:1", false },
        { "", "", true },
        { "off", "", false },
        { "", "1g.5gb:0", true },
        { "1g.5gb@0", "1g.5gb:1 1g.99gb:0", true },
        { "1g.5gb@0", "1g.5gb:1 1g.99gb:1", false },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;

        sit_down(&desk, "a100-40gb", rows[i].instances);
        want(&desk, rows[i].wants);
        if (mig_wish_met(desk.gpu, &desk.wish) != rows[i].met)
            fail_msg("%s for %s", rows[i].instances, rows[i].wants);
    }
}

static void imagined_steps_are_refused_as_a_driver_would(void **test)
{
    static const struct {
        const char *board, *instances;
        struct mig_step step;
        int r;
    } rows[] = {
        { "h100-80gb", "off", { MIG_STEP_CREATE_GI, 0, { 0, 1 } }, -ENOTSUP },
        { "h100-80gb", "", { MIG_STEP_CREATE_GI, 13, { 0, 1 } }, -ENOTSUP },
        { "h100-80gb", "", { MIG_STEP_CREATE_GI, 0, { 7, 1 } }, -EINVAL },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_CREATE_GI, 0, { 6, 1 } }, -ENOSPC },
        { "h100-80gb", "1g.10gb+me@6", { MIG_STEP_CREATE_GI, 7, { 0, 1 } }, -ENOSPC },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_CREATE_GI, 0, { 3, 1 } }, 0 },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_DESTROY_GI, 2, { 4, 4 } }, -EBUSY },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_DESTROY_GI, 2, { 0, 4 } }, -ENOENT },
        { "h100-80gb", "3g.40gb@4!", { MIG_STEP_DESTROY_CI, 2, { 4, 4 }, 2, { 0, 3 } }, -EBUSY },
        { "h100-80gb", "3g.40gb@4?", { MIG_STEP_DESTROY_CI, 2, { 4, 4 }, 2, { 0, 3 } }, 0 },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_DESTROY_CI, 2, { 4, 4 }, 0, { 0, 1 } }, -ENOENT },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_CREATE_CI, 2, { 4, 4 }, 0, {} }, -ENOSPC },
        { "h100-80gb", "3g.40gb@4/-", { MIG_STEP_CREATE_CI, 2, { 4, 4 }, 3, {} }, -ENOTSUP },
        { "h100-80gb", "3g.40gb@4/-", { MIG_STEP_CREATE_CI, 2, { 4, 4 }, 1, { 1, 2 } }, -EINVAL },
        { "h100-80gb", "3g.40gb@4/-", { MIG_STEP_CREATE_CI, 2, { 4, 4 }, 1, {} }, 0 },
        { "h100-80gb", "3g.40gb@4/-", { MIG_STEP_CREATE_CI, 2, { 0, 4 }, 1, {} }, -ENOENT },
        { "h100-80gb", "2g.20gb@4/-", { MIG_STEP_CREATE_CI, 1, { 4, 2 }, 7, {} }, 0 },
        { "a100-40gb", "2g.10gb@4/-", { MIG_STEP_CREATE_CI, 1, { 4, 2 }, 7, {} }, -ENOTSUP },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_MODE_OFF }, -EBUSY },
        { "h100-80gb", "3g.40gb@4", { MIG_STEP_RESET }, 0 },
        { "t4", "off", { MIG_STEP_MODE_ON }, -ENOTSUP },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        DESK;
        struct err err = {};

        sit_down(&desk, rows[i].board, rows[i].instances);
        if (mig_step_imagine(desk.gpu, &rows[i].step, &err) != rows[i].r)
            fail_msg("row %zu: %s", i, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_lead_where_they_should),
        cmocka_unit_test(steps_are_those_that_are_needed),
        cmocka_unit_test(refusals_say_who_is_in_the_way_and_what_would_do),
        cmocka_unit_test(mode_changes_only_where_it_must),
        cmocka_unit_test(mode_stays_while_somebody_is_in_the_way),
        cmocka_unit_test(pods_may_be_stopped_but_no_process),
        cmocka_unit_test(whole_gpu_of_a_pod_is_like_one_of_a_process_until_pods_may_be_stopped),
        cmocka_unit_test(gpu_that_cannot_be_read_is_left_alone),
        cmocka_unit_test(driver_that_hides_its_profiles_is_named),
        cmocka_unit_test(layouts_are_reached_exactly),
        cmocka_unit_test(layouts_that_cannot_be_are_refused),
        cmocka_unit_test(compute_instances_without_a_place_stay_and_others_find_theirs),
        cmocka_unit_test(mini_quarter_counts_as_one_slice_and_takes_two),
        cmocka_unit_test(unknown_instances_go_unless_they_are_held),
        cmocka_unit_test(each_limit_binds_on_its_own),
        cmocka_unit_test(no_board_however_strange_makes_it_run_away),
        cmocka_unit_test(lack_of_memory_is_an_error_and_no_half_plan),
        cmocka_unit_test(each_gpu_of_a_mixed_node_is_planned_for_itself),
        cmocka_unit_test(layouts_are_compared_by_what_is_where),
        cmocka_unit_test(wishes_are_met_by_names_alone),
        cmocka_unit_test(imagined_steps_are_refused_as_a_driver_would),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
