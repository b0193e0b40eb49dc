/*
 * How MIG looks on a terminal: memory slices as boxes, instances as lines.
 *
 *        0        1        2                 4
 *     ┌────────┬────────┬─────────────────┬───────────────────────────────────┐
 *     │ 1g.10gb│ 1g.10gb│ 2g.20gb         │ 3g.40gb                           │
 *     │ python3│ -      │ team-a/train    │ -                                 │
 *     └────────┴────────┴─────────────────┴───────────────────────────────────┘
 */
#include <sys/ioctl.h>

#include "cli/table.h"
#include "cli/verb_mig.h"

enum { WIDTH_DEFAULT = 80, WIDTH_MOST = 120, UNIT_LEAST = 4, MAX_CELLS = MIG_MAX_MEMORY_SLICES };

struct cell {
    uint32_t start, size;
    char title[160], below[160];
    enum output_style title_style, below_style;
};

struct drawing {
    uint32_t units;
    size_t n;
    struct cell cells[MAX_CELLS];
};

/* ---- names ---- */

void mig_heading(const struct mig_gpu *gpu, char text[static 256])
{
    static const char *const modes[2][2] = {
        { "MIG off", "MIG off, on after a reset" },
        { "MIG on, off after a reset", "MIG on" },
    };

    bool named = gpu->name && *gpu->name;

    snprintf(text, 256, "GPU %u  %s%s%s", gpu->index, named ? gpu->name : "", named ? "  " : "",
             gpu->problem    ? gpu->problem
             : !gpu->capable ? "without MIG"
                             : modes[gpu->enabled][gpu->pending]);
}

static const char *profile_name(const struct mig_gpu *gpu, uint32_t gi_profile)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, gi_profile);

    return profile && profile->name ? profile->name : "?";
}

/* Several devices in one instance: "3 x 1c.3g.40gb" or "1c.3g.40gb, 2c.3g.40gb". */
static void join_devices(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi,
                         char text[static 160])
{
    char name[MIG_PROFILE_NAME_MAX];
    size_t n = 0;

    for (size_t i = 0; i < gi->n_cis && n < 160;) {
        size_t same = 1;

        while (i + same < gi->n_cis && gi->cis[i + same].ci_profile == gi->cis[i].ci_profile)
            same++;
        mig_device_name(gpu, gi, &gi->cis[i], name);
        n += (size_t)snprintf(text + n, 160 - n, "%s", i > 0 ? ", " : "");
        if (same > 1 && n < 160)
            n += (size_t)snprintf(text + n, 160 - n, "%zu x ", same);
        if (n < 160)
            n += (size_t)snprintf(text + n, 160 - n, "%s", name);
        i += same;
    }
}

/* "1g.10gb", "3 x 1c.3g.40gb", "3g.40gb, no device" */
static void instance_title(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi,
                           char text[static 160])
{
    if (gi->n_cis == 0)
        snprintf(text, 160, "%s, no device", profile_name(gpu, gi->gi_profile));
    else
        join_devices(gpu, gi, text);
}

static void placed_title(const struct mig_gpu *gpu, const struct mig_placed *placed,
                         char text[static 160])
{
    struct mig_gpu_instance gi = { .gi_profile = placed->gi_profile,
                                   .placement = placed->placement,
                                   .n_cis = MIN(placed->n_cis, (size_t)MIG_MAX_COMPUTE_INSTANCES) };

    for (size_t i = 0; i < gi.n_cis; i++)
        gi.cis[i].ci_profile = placed->cis[i].ci_profile;
    instance_title(gpu, &gi, text);
}

/* ---- what is free ---- */

/* Slices, engines and counts are looked after by whoever imagines the step. */
static bool could_create(struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                         struct mig_placement place)
{
    const struct mig_step step = { .kind = MIG_STEP_CREATE_GI,
                                   .gi_profile = profile->gi_profile,
                                   .gi = place };

    return mig_step_imagine(gpu, &step, NULL) == 0;
}

/* Of equal length: taking the first that is free, again and again, takes the most. */
static uint32_t count_more(const struct mig_gpu *gpu, const struct mig_gi_profile *profile)
{
    struct mig_gpu filled = *gpu;
    uint32_t n = 0;

    for (size_t i = 0; i < profile->n_placements; i++)
        n += could_create(&filled, profile, profile->placements[i]);
    return n;
}

size_t mig_free_places(const struct mig_gpu *gpu, const struct mig_gi_profile *profile,
                       struct mig_placement ret[static MIG_MAX_PLACEMENTS], uint32_t *ret_more)
{
    size_t n = 0;

    for (size_t i = 0; i < profile->n_placements; i++) {
        struct mig_gpu copy = *gpu;

        if (could_create(&copy, profile, profile->placements[i]))
            ret[n++] = profile->placements[i];
    }
    *ret_more = n > 0 ? count_more(gpu, profile) : 0;
    return n;
}

/* Whether any instance could be made that covers the slice. */
static bool slice_has_use(const struct mig_gpu *gpu, uint32_t slice)
{
    struct mig_placement places[MIG_MAX_PLACEMENTS];
    uint32_t more;

    for (size_t p = 0; p < gpu->n_profiles; p++) {
        size_t n = mig_free_places(gpu, &gpu->profiles[p], places, &more);
        for (size_t i = 0; i < n; i++)
            if (slice >= places[i].start && slice < places[i].start + places[i].size)
                return true;
    }
    return false;
}

/* ---- boxes ---- */

static struct cell *add_cell(struct drawing *drawing, struct mig_placement place)
{
    static struct cell spare; /* a GPU cannot have more cells than slices */
    struct cell *cell = drawing->n < MAX_CELLS ? &drawing->cells[drawing->n++] : &spare;

    *cell = (struct cell){ .start = place.start, .size = place.size };
    return cell;
}

static void add_gap(struct drawing *drawing, const struct mig_gpu *gpu, uint32_t from, uint32_t to)
{
    while (from < to) {
        bool of_use = gpu && slice_has_use(gpu, from);
        uint32_t end = from + 1;

        while (end < to && (gpu && slice_has_use(gpu, end)) == of_use)
            end++;
        struct cell *cell = add_cell(drawing, (struct mig_placement){ from, end - from });
        snprintf(cell->title, sizeof(cell->title), "%s", of_use ? "free" : "");
        cell->title_style = cell->below_style = STYLE_DIM;
        from = end;
    }
}

/* "process 4711 (python3)" as short as it has to be. */
static void shorten_process(const char *holder, size_t width, char *text, size_t size)
{
    unsigned pid;
    char name[64];
    int n = sscanf(holder, "process %u (%63[^)]", &pid, name);

    if (n == 2)
        snprintf(text, size, "%u %s", pid, name);
    else if (n == 1)
        snprintf(text, size, "%u", pid);
    if (n == 2 && table_text_width(text) > width)
        snprintf(text, size, "%s", table_text_width(name) <= width ? name : "");
    if (n == 2 && !*text)
        snprintf(text, size, "%u", pid);
}

static void shorten_holder(const char *holder, size_t width, char *text, size_t size)
{
    snprintf(text, size, "%s", holder);
    if (table_text_width(holder) <= width)
        return;
    if (text_starts(holder, "process ")) {
        shorten_process(holder, width, text, size);
    } else if (text_starts(holder, "pod ")) {
        const char *slash = strrchr(holder, '/');

        snprintf(text, size, "%s", holder + strlen("pod "));
        if (slash && table_text_width(text) > width)
            snprintf(text, size, "%s", slash + 1);
    }
}

/* "1g.10gb+me" where only "1g+me" has room. */
static void shorten_title(char *title, size_t width)
{
    char *gb = strstr(title, "gb"), *dot = strrchr(title, '.');

    if (table_text_width(title) > width && gb && dot && dot < gb)
        memmove(dot, gb + 2, strlen(gb + 2) + 1);
}

static void print_fitted(FILE *to, const char *text, size_t width, bool boxes)
{
    size_t have = table_text_width(text);

    if (have <= width)
        fprintf(to, "%s%*s", text, (int)(width - have), "");
    else /* holders and profiles are ASCII, or the cut may fall short of the border */
        fprintf(to, "%.*s%s", (int)width - 1, text, boxes ? "…" : "~");
}

static unsigned unit_of(const struct drawing *drawing, const struct mig_look_style *style)
{
    unsigned width = MIN(MAX(style->width, 40u), (unsigned)WIDTH_MOST);

    return MAX((width - 1) / MAX(drawing->units, 1u), (unsigned)UNIT_LEAST);
}

static void print_rule(FILE *to, const struct drawing *drawing, unsigned unit, const char *left,
                       const char *middle, const char *right, bool boxes)
{
    fputs(boxes ? left : "+", to);
    for (size_t i = 0; i < drawing->n; i++) {
        for (unsigned k = 1; k < drawing->cells[i].size * unit; k++)
            fputs(boxes ? "─" : "-", to);
        fputs(!boxes ? "+" : i + 1 < drawing->n ? middle : right, to);
    }
    fputc('\n', to);
}

static void print_row(FILE *to, struct drawing *drawing, unsigned unit, bool below,
                      const struct mig_look_style *style)
{
    const char *bar = style->boxes ? "│" : "|";

    fputs(bar, to);
    for (size_t i = 0; i < drawing->n; i++) {
        struct cell *cell = &drawing->cells[i];
        size_t width = cell->size * unit - 2;
        char text[160];
        enum output_style kind = below ? cell->below_style : cell->title_style;

        if (below)
            shorten_holder(cell->below, width, text, sizeof(text));
        else
            snprintf(text, sizeof(text), "%s", cell->title);
        if (!below)
            shorten_title(text, width);
        fprintf(to, " %s", output_style(style->colour, kind));
        print_fitted(to, text, width, style->boxes);
        fprintf(to, "%s%s", output_unstyle(style->colour, kind), bar);
    }
    fputc('\n', to);
}

static void print_drawing(FILE *to, struct drawing *drawing, const struct mig_look_style *style)
{
    unsigned unit = unit_of(drawing, style);

    print_rule(to, drawing, unit, "┌", "┬", "┐", style->boxes);
    print_row(to, drawing, unit, false, style);
    print_row(to, drawing, unit, true, style);
    print_rule(to, drawing, unit, "└", "┴", "┘", style->boxes);
}

struct mig_look_style mig_style_of(FILE *to)
{
    struct mig_look_style style = { .boxes = output_is_terminal(to),
                                    .colour = output_colour(to),
                                    .width = WIDTH_DEFAULT };
    struct winsize size = {};

    if (style.boxes && ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        style.width = size.ws_col;
    return style;
}

static void draw_whole(struct drawing *drawing, const char *title, const char *holder)
{
    drawing->units = MAX(drawing->units, 1u);
    struct cell *cell = add_cell(drawing, (struct mig_placement){ 0, drawing->units });

    snprintf(cell->title, sizeof(cell->title), "%s", title);
    snprintf(cell->below, sizeof(cell->below), "%s", holder ? holder : "-");
    cell->below_style = holder ? STYLE_GOOD : STYLE_DIM;
}

void mig_draw_gpu(FILE *to, const struct mig_gpu *gpu, const struct mig_look_style *style)
{
    struct drawing drawing = { .units = gpu->memory_slices };
    uint32_t at = 0;

    if (!gpu->enabled)
        draw_whole(&drawing, "whole GPU", gpu->holder);
    for (size_t i = 0; gpu->enabled && i < gpu->n_gis; i++) {
        const struct mig_gpu_instance *gi = &gpu->gis[i];
        const char *holder = mig_gpu_instance_holder(gi);

        add_gap(&drawing, gpu, at, gi->placement.start);
        struct cell *cell = add_cell(&drawing, gi->placement);
        instance_title(gpu, gi, cell->title);
        snprintf(cell->below, sizeof(cell->below), "%s", holder ? holder : "-");
        cell->title_style = STYLE_BOLD;
        cell->below_style = holder ? STYLE_GOOD : STYLE_DIM;
        at = gi->placement.start + gi->placement.size;
    }
    if (gpu->enabled)
        add_gap(&drawing, gpu, at, gpu->memory_slices);
    print_drawing(to, &drawing, style);
}

/* ---- what a plan does ---- */

/* What a plan does to one GPU instance. */
enum mig_fate { MIG_STAYS, MIG_CHANGES, MIG_GOES, MIG_COMES };

struct mig_fated {
    enum mig_fate fate;
    uint32_t gi_profile;
    struct mig_placement placement;
    const struct mig_gpu_instance *gi; /* as it is; NULL for one that comes */
    const struct mig_placed *placed;   /* as it will be; NULL for one that goes */
};

static bool same_place(struct mig_placement a, struct mig_placement b)
{
    return a.start == b.start && a.size == b.size;
}

static bool has_step(const struct mig_gpu_plan *plan, enum mig_step_kind kind,
                     struct mig_placement place)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].kind == kind && same_place(plan->steps[i].gi, place))
            return true;
    return false;
}

bool mig_plan_has(const struct mig_gpu_plan *plan, enum mig_step_kind kind)
{
    for (size_t i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].kind == kind)
            return true;
    return false;
}

static const struct mig_placed *placed_at(const struct mig_layout *layout,
                                          struct mig_placement place)
{
    for (size_t i = 0; i < layout->n_gis; i++)
        if (same_place(layout->gis[i].placement, place))
            return &layout->gis[i];
    return NULL;
}

static int by_start(const void *a, const void *b)
{
    const struct mig_fated *left = a, *right = b;

    if (left->placement.start != right->placement.start)
        return left->placement.start < right->placement.start ? -1 : 1;
    return (int)left->fate - (int)right->fate;
}

/* By start, what goes before what comes. How many; at most 2 × MIG_MAX_GPU_INSTANCES. */
static size_t fates_of(const struct mig_gpu_plan *plan,
                       struct mig_fated ret[static 2 * MIG_MAX_GPU_INSTANCES])
{
    bool lost = mig_plan_has(plan, MIG_STEP_MODE_OFF) || mig_plan_has(plan, MIG_STEP_RESET);
    size_t n = 0;

    for (size_t i = 0; i < plan->gpu->n_gis; i++) {
        const struct mig_gpu_instance *gi = &plan->gpu->gis[i];
        struct mig_fated *fated = &ret[n++];

        *fated = (struct mig_fated){ .gi_profile = gi->gi_profile,
                                     .placement = gi->placement,
                                     .gi = gi,
                                     .placed = placed_at(&plan->after, gi->placement) };
        if (lost || has_step(plan, MIG_STEP_DESTROY_GI, gi->placement))
            fated->fate = MIG_GOES;
        else if (has_step(plan, MIG_STEP_DESTROY_CI, gi->placement) ||
                 has_step(plan, MIG_STEP_CREATE_CI, gi->placement))
            fated->fate = MIG_CHANGES;
    }
    for (size_t i = 0; i < plan->after.n_gis; i++) {
        const struct mig_placed *placed = &plan->after.gis[i];

        if (has_step(plan, MIG_STEP_CREATE_GI, placed->placement))
            ret[n++] = (struct mig_fated){ .fate = MIG_COMES,
                                           .gi_profile = placed->gi_profile,
                                           .placement = placed->placement,
                                           .placed = placed };
    }
    qsort(ret, n, sizeof(ret[0]), by_start);
    return n;
}

void mig_draw_after(FILE *to, const struct mig_gpu_plan *plan, const struct mig_look_style *style)
{
    struct mig_fated fates[2 * MIG_MAX_GPU_INSTANCES];
    struct drawing drawing = { .units = plan->gpu->memory_slices };
    size_t n = fates_of(plan, fates);
    uint32_t at = 0;

    if (!plan->after.enabled)
        draw_whole(&drawing, "whole GPU", NULL);
    for (size_t i = 0; plan->after.enabled && i < n; i++) {
        const char *holder = fates[i].gi ? mig_gpu_instance_holder(fates[i].gi) : NULL;

        if (fates[i].fate == MIG_GOES)
            continue;
        add_gap(&drawing, NULL, at, fates[i].placement.start);
        struct cell *cell = add_cell(&drawing, fates[i].placement);
        if (fates[i].placed)
            placed_title(plan->gpu, fates[i].placed, cell->title);
        else
            instance_title(plan->gpu, fates[i].gi, cell->title);
        snprintf(cell->below, sizeof(cell->below), "%s",
                 fates[i].fate == MIG_STAYS ? (holder ? holder : "-") : "new");
        cell->title_style = STYLE_BOLD;
        cell->below_style = fates[i].fate == MIG_STAYS && !holder ? STYLE_DIM : STYLE_GOOD;
        at = fates[i].placement.start + fates[i].placement.size;
    }
    if (plan->after.enabled)
        add_gap(&drawing, NULL, at, plan->gpu->memory_slices);
    print_drawing(to, &drawing, style);
}

/* ---- lines ---- */

/* Behind a single one, below several. */
static void print_uuids(FILE *to, const struct mig_gpu_instance *gi)
{
    for (size_t i = 0; i < gi->n_cis; i++)
        if (gi->cis[i].uuid)
            fprintf(to, "%s%s", gi->n_cis == 1 ? "  " : "\n      ", gi->cis[i].uuid);
}

static void print_fated(FILE *to, const struct mig_gpu_plan *plan, const struct mig_fated *fated,
                        enum mig_uuids uuids, const struct mig_look_style *style)
{
    static const struct {
        char sign;
        enum output_style style;
    } signs[] = {
        [MIG_STAYS] = { ' ', STYLE_DIM },
        [MIG_CHANGES] = { '~', STYLE_WARN },
        [MIG_GOES] = { '-', STYLE_BAD },
        [MIG_COMES] = { '+', STYLE_GOOD },
    };
    const char *holder = fated->gi ? mig_gpu_instance_holder(fated->gi) : NULL;
    enum output_style colour = signs[fated->fate].style;
    bool stays = fated->fate == MIG_STAYS;
    char title[160];

    if (fated->gi)
        instance_title(plan->gpu, fated->gi, title);
    else
        placed_title(plan->gpu, fated->placed, title);
    fprintf(to, "  %s%c %s@%u", output_style(style->colour, colour), signs[fated->fate].sign, title,
            fated->placement.start);
    if (fated->fate == MIG_CHANGES && fated->placed) {
        placed_title(plan->gpu, fated->placed, title);
        fprintf(to, " becomes %s", title);
    }
    if (fated->gi && (uuids == MIG_UUIDS_ALL || (uuids == MIG_UUIDS_TOUCHED && !stays)))
        print_uuids(to, fated->gi);
    if (stays)
        fprintf(to, "  stays");
    if (holder)
        fprintf(to, "%s%s", stays ? ", held by " : "  taken from ", holder);
    fprintf(to, "%s\n", output_unstyle(style->colour, colour));
}

void mig_print_fates(FILE *to, const struct mig_gpu_plan *plan, enum mig_uuids uuids,
                     const struct mig_look_style *style)
{
    struct mig_fated fates[2 * MIG_MAX_GPU_INSTANCES];
    size_t n = fates_of(plan, fates);

    if (mig_plan_has(plan, MIG_STEP_MODE_OFF))
        fprintf(to, "  - MIG mode\n");
    if (mig_plan_has(plan, MIG_STEP_MODE_ON))
        fprintf(to, "  + MIG mode\n");
    if (mig_plan_has(plan, MIG_STEP_RESET))
        fprintf(to, "  ! a reset of the GPU\n");
    if (mig_plan_has(plan, MIG_STEP_MODE_ON) && plan->gpu->holder)
        fprintf(to, "  - the whole GPU  taken from %s\n", plan->gpu->holder);
    for (size_t i = 0; i < n; i++)
        print_fated(to, plan, &fates[i], uuids, style);
}

/* ---- JSON ---- */

static json_t *text_json(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *devices_json(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi)
{
    json_t *devices = json_array();
    char name[MIG_PROFILE_NAME_MAX];

    for (size_t i = 0; i < gi->n_cis; i++) {
        mig_device_name(gpu, gi, &gi->cis[i], name);
        json_array_append_new(devices,
                              json_pack("{s:i, s:s, s:o, s:o}", "id", (int)gi->cis[i].id, "profile",
                                        name, "uuid", text_json(gi->cis[i].uuid), "holder",
                                        text_json(gi->cis[i].holder)));
    }
    return devices;
}

static json_t *instance_json(const struct mig_gpu *gpu, const struct mig_gpu_instance *gi)
{
    return json_pack("{s:i, s:s, s:i, s:i, s:o}", "id", (int)gi->id, "profile",
                     profile_name(gpu, gi->gi_profile), "start", (int)gi->placement.start, "size",
                     (int)gi->placement.size, "devices", devices_json(gpu, gi));
}

static json_t *free_json(const struct mig_gpu *gpu)
{
    json_t *list = json_array();

    for (size_t p = 0; p < gpu->n_profiles; p++) {
        struct mig_placement places[MIG_MAX_PLACEMENTS];
        uint32_t more;
        size_t n = mig_free_places(gpu, &gpu->profiles[p], places, &more);
        json_t *starts = json_array();

        for (size_t i = 0; i < n; i++)
            json_array_append_new(starts, json_integer(places[i].start));
        if (n == 0)
            json_decref(starts);
        else
            json_array_append_new(
                list, json_pack("{s:s, s:i, s:i, s:o}", "profile", gpu->profiles[p].name, "size",
                                (int)places[0].size, "count", (int)more, "starts", starts));
    }
    return list;
}

json_t *mig_gpu_json(const struct mig_gpu *gpu)
{
    json_t *instances = json_array();

    for (size_t i = 0; i < gpu->n_gis; i++)
        json_array_append_new(instances, instance_json(gpu, &gpu->gis[i]));
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:i, s:i, s:o, s:o}", "index",
                     (int)gpu->index, "uuid", text_json(gpu->uuid), "name", text_json(gpu->name),
                     "busId", text_json(gpu->bus_id), "problem", text_json(gpu->problem), "capable",
                     gpu->capable, "enabled", gpu->enabled, "pending", gpu->pending, "holder",
                     text_json(gpu->holder), "memorySlices", (int)gpu->memory_slices,
                     "computeSlices", (int)gpu->slices, "instances", instances, "free",
                     free_json(gpu));
}

static json_t *fated_json(const struct mig_gpu_plan *plan, const struct mig_fated *fated)
{
    static const char *const words[] = {
        [MIG_STAYS] = "stays", [MIG_CHANGES] = "changes", [MIG_GOES] = "goes", [MIG_COMES] = "comes"
    };
    char title[160] = "";

    if (fated->placed && fated->fate != MIG_GOES)
        placed_title(plan->gpu, fated->placed, title);
    else if (fated->gi)
        instance_title(plan->gpu, fated->gi, title);
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:o}", "fate", words[fated->fate], "profile",
                     profile_name(plan->gpu, fated->gi_profile), "devices", title, "start",
                     (int)fated->placement.start, "size", (int)fated->placement.size, "was",
                     fated->gi ? devices_json(plan->gpu, fated->gi) : json_array());
}

json_t *mig_plan_json(const struct mig_gpu_plan *plan)
{
    json_t *instances = json_array(), *steps = json_array(), *alternatives = json_array();
    struct mig_fated fates[2 * MIG_MAX_GPU_INSTANCES];
    size_t n = fates_of(plan, fates);
    char line[160];

    for (size_t i = 0; i < n; i++)
        json_array_append_new(instances, fated_json(plan, &fates[i]));
    for (size_t i = 0; i < plan->n_steps; i++) {
        mig_step_describe(plan->gpu, &plan->steps[i], line);
        json_array_append_new(steps, json_string(line));
    }
    for (size_t i = 0; i < plan->n_alternatives; i++)
        json_array_append_new(alternatives, json_string(plan->alternatives[i]));
    return json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:b, s:b}}", "index",
                     (int)plan->gpu->index, "uuid", text_json(plan->gpu->uuid), "refused",
                     text_json(plan->sentence), "blocker", text_json(plan->blocker), "alternatives",
                     alternatives, "steps", steps, "instances", instances, "mode", "before",
                     plan->before.enabled, "after", plan->after.enabled);
}
