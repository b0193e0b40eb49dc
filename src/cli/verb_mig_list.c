#include <inttypes.h>
#include <string.h>

#include "cli/table.h"
#include "cli/verb_mig.h"

static void add_device(struct table *table, const struct mig_gpu *gpu,
                       const struct mig_gpu_instance *gi, const struct mig_compute_instance *ci,
                       bool wide)
{
    const struct mig_gi_profile *profile = mig_gpu_profile(gpu, gi->gi_profile);
    char name[MIG_PROFILE_NAME_MAX] = "";

    if (ci)
        mig_device_name(gpu, gi, ci, name);
    table_printf(table, "%u", gpu->index);
    table_cell(table, ci ? name : profile ? profile->name : NULL);
    if (gi->placement.size == 1)
        table_printf(table, "%u", gi->placement.start);
    else
        table_printf(table, "%u-%u", gi->placement.start,
                     gi->placement.start + gi->placement.size - 1);
    if (ci)
        table_printf(table, "%u/%u", gi->id, ci->id);
    else
        table_printf(table, "%u", gi->id);
    if (wide) {
        table_cell(table, ci ? ci->uuid : NULL);
        table_printf(table, "%" PRIu64 " MiB", profile ? profile->memory_mib : 0);
    }
    if (!ci)
        table_styled(table, STYLE_WARN, "no compute instance");
    else if (ci->holder)
        table_styled(table, STYLE_GOOD, "%s", ci->holder);
    else
        table_cell(table, NULL);
}

static void add_gpu(struct table *table, const struct mig_gpu *gpu, bool wide)
{
    for (size_t i = 0; i < gpu->n_gis; i++) {
        const struct mig_gpu_instance *gi = &gpu->gis[i];

        for (size_t k = 0; k < gi->n_cis; k++)
            add_device(table, gpu, gi, &gi->cis[k], wide);
        if (gi->n_cis == 0)
            add_device(table, gpu, gi, NULL, wide);
    }
}

/* "room for 3 x 1g.10gb or 1 x 2g.20gb or …" */
static void print_room(const struct mig_gpu *gpu, const struct mig_look_style *style)
{
    struct mig_placement places[MIG_MAX_PLACEMENTS];
    bool any = false;

    for (size_t p = 0; p < gpu->n_profiles; p++) {
        uint32_t more;

        if (mig_free_places(gpu, &gpu->profiles[p], places, &more) == 0)
            continue;
        printf("%s%u x %s", any ? " or " : "Room for ", more, gpu->profiles[p].name);
        any = true;
    }
    if (any)
        putchar('\n');
}

static bool has_instances(const struct mig_node *node)
{
    for (size_t i = 0; i < node->n_gpus; i++)
        if (node->gpus[i].n_gis > 0)
            return true;
    return false;
}

static int print_text(const struct mig_site *site, const struct mig_choice *choice, bool wide,
                      struct err *err)
{
    auto_(table_done) struct table narrow_table =
        TABLE("GPU", "DEVICE", "SLICES", "INSTANCE", "HELD BY");
    auto_(table_done) struct table wide_table =
        TABLE("GPU", "DEVICE", "SLICES", "INSTANCE", "UUID", "MEMORY", "HELD BY");
    struct table *table = wide ? &wide_table : &narrow_table;
    struct mig_look_style style = mig_style_of(stdout);

    for (size_t i = 0; i < site->node->n_gpus; i++) {
        const struct mig_gpu *gpu = &site->node->gpus[i];
        char heading[256];

        if (!choice->chosen[i])
            continue;
        mig_heading(gpu, heading);
        printf("%s%s%s\n", output_style(style.colour, STYLE_BOLD), heading,
               output_unstyle(style.colour, STYLE_BOLD));
        if (gpu->problem || !gpu->capable)
            continue;
        mig_draw_gpu(stdout, gpu, &style);
        print_room(gpu, &style);
        add_gpu(table, gpu, wide);
    }
    if (!has_instances(site->node))
        return 0;
    putchar('\n');
    return table_print(table, stdout, err);
}

static json_t *list_json(const struct mig_site *site, const struct mig_choice *choice)
{
    static const char *const pods[] = {
        [MIG_PODS_NOT_ASKED] = "unknown",
        [MIG_PODS_NO_KUBELET] = "no kubelet",
        [MIG_PODS_KNOWN] = "known",
        [MIG_PODS_UNKNOWN] = "unknown",
    };
    json_t *gpus = json_array();

    for (size_t i = 0; i < site->node->n_gpus; i++)
        if (choice->chosen[i])
            json_array_append_new(gpus, mig_gpu_json(&site->node->gpus[i]));
    return json_pack("{s:s, s:o}", "pods", pods[site->pods], "gpus", gpus);
}

int mig_list(struct mig_site *site, const struct mig_request *request, struct err *err)
{
    struct mig_choice choice;

    int r = mig_site_look(site, true, err);
    if (r == 0)
        r = mig_choose(site->node, request->gpus, &choice, err);
    if (r < 0)
        return r;
    if (site->pods == MIG_PODS_UNKNOWN)
        fprintf(stderr, "warning: which pods hold what is not known: %s\n", site->pods_problem);
    mig_warn_of_change(site);
    if (request->format == OUTPUT_TEXT)
        return print_text(site, &choice, request->wide, err);
    auto_(json_decrefp) json_t *json = list_json(site, &choice);
    return json ? output_print(stdout, request->format, json, err) : err_no_memory(err);
}
