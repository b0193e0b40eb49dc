/* The checkpoint of mig_documents.h (spec/mig §4.9): a line of JSON. It is read twice: jansson says
 * whether it is JSON at all, the YAML reader, for whom JSON is YAML, knows where everything is. */
#include <errno.h>
#include <inttypes.h>

#include "codec/json.h"
#include "codec/yaml.h"
#include "share/go_text.h"
#include "share/mig_documents.h"

/* ---- writing ---- */

/* By profile, as the driver is asked for them. */
static int compare_gis(const void *a, const void *b)
{
    const struct mig_gpu_instance *x = *(const struct mig_gpu_instance *const *)a;
    const struct mig_gpu_instance *y = *(const struct mig_gpu_instance *const *)b;

    if (x->gi_profile != y->gi_profile)
        return x->gi_profile < y->gi_profile ? -1 : 1;
    return (x->placement.start > y->placement.start) - (x->placement.start < y->placement.start);
}

static int compare_cis(const void *a, const void *b)
{
    const struct mig_compute_instance *x = *(const struct mig_compute_instance *const *)a;
    const struct mig_compute_instance *y = *(const struct mig_compute_instance *const *)b;

    if (x->ci_profile != y->ci_profile)
        return x->ci_profile < y->ci_profile ? -1 : 1;
    return (x > y) - (x < y); /* as the GPU instance has them */
}

static void write_gi(const struct mig_gpu_instance *gi, struct buf *out)
{
    const struct mig_compute_instance *cis[MIG_MAX_COMPUTE_INSTANCES];

    for (size_t i = 0; i < gi->n_cis; i++)
        cis[i] = &gi->cis[i];
    qsort(cis, gi->n_cis, sizeof(*cis), compare_cis);
    buf_printf(out,
               "{\"ProfileID\":%u,\"Placement\":{\"Start\":%u,\"Size\":%u},\"ComputeInstances\":",
               gi->gi_profile, gi->placement.start, gi->placement.size);
    for (size_t i = 0; i < gi->n_cis; i++)
        buf_printf(out, "%c{\"ProfileID\":%u,\"EngProfileID\":0}", i == 0 ? '[' : ',',
                   cis[i]->ci_profile);
    buf_add_text(out, gi->n_cis == 0 ? "null}" : "]}");
}

static void write_gpu(const struct mig_gpu *gpu, struct buf *out)
{
    const struct mig_gpu_instance *gis[MIG_MAX_GPU_INSTANCES];
    size_t n = gpu->enabled ? gpu->n_gis : 0;

    for (size_t i = 0; i < n; i++)
        gis[i] = &gpu->gis[i];
    qsort(gis, n, sizeof(*gis), compare_gis);
    buf_printf(out, "{\"UUID\":\"%s\",\"MigMode\":%d,\"GpuInstances\":", gpu->uuid, gpu->enabled);
    for (size_t i = 0; i < n; i++) {
        buf_add_char(out, i == 0 ? '[' : ',');
        write_gi(gis[i], out);
    }
    buf_add_text(out, n == 0 ? "null}" : "]}");
}

int mig_checkpoint_write(const struct mig_node *node, struct buf *out, struct err *err)
{
    size_t n = 0;

    for (size_t i = 0; i < node->n_gpus; i++)
        if (node->gpus[i].problem)
            return err_set(err, EIO,
                           "error fetching MIG state: error checking MIG capable: error getting "
                           "device handle: GPU %u: %s",
                           node->gpus[i].index, node->gpus[i].problem);
    buf_add_text(out, "{\"Version\":\"v1\",\"MigState\":{\"Devices\":");
    for (size_t i = 0; i < node->n_gpus; i++) {
        if (!node->gpus[i].capable)
            continue;
        buf_add_char(out, n++ == 0 ? '[' : ',');
        write_gpu(&node->gpus[i], out);
    }
    buf_add_text(out, n == 0 ? "null}}" : "]}}");
    if (out->failed)
        return err_set(err, EFBIG, "the checkpoint is more than %zu bytes", out->max);
    return 0;
}

/* ---- reading: small parts ---- */

/* Where a value stands in upstream's structs, for its own sentence about a wrong type. */
#define AT_DEVICES "MigState.Devices"
#define AT_GIS     AT_DEVICES ".GpuInstances"
#define AT_CIS     AT_GIS ".ComputeInstances"
#define AT_DEVICE  "DeviceState." AT_DEVICES
#define AT_GI      "GpuInstanceState." AT_GIS
#define AT_PLACE   "GpuInstancePlacement." AT_GIS ".Placement"
#define AT_CI      "ComputeInstanceState." AT_CIS

static void mismatch(struct findings *findings, const struct value *value, const char *field,
                     const char *type)
{
    finding_add_text(findings, FINDING_TYPE, value->place, NULL,
                     go_json_field_mismatch(findings->arena, value, field, type));
}

/* A map's list; NULL when it is absent or null, and when it is something else, which is noted. */
static const struct value *list_in(struct findings *findings, const struct value *map,
                                   const char *key, const char *field, const char *type)
{
    const struct value *list = value_get_nocase(map, key);

    if (!list || list->kind == VALUE_NULL || list->kind == VALUE_LIST)
        return list && list->kind == VALUE_LIST ? list : NULL;
    mismatch(findings, list, field, type);
    return NULL;
}

/* Whether the value is a map or null, which Go takes for an empty one. */
static bool is_struct(struct findings *findings, const struct value *value, const char *field,
                      const char *type)
{
    if (value->kind == VALUE_MAP || value->kind == VALUE_NULL)
        return true;
    mismatch(findings, value, field, type);
    return false;
}

/* A number up to `max`, 0 when absent. */
static uint32_t number_in(struct findings *findings, const struct value *map, const char *key,
                          const char *field, const char *type, uint32_t max)
{
    const struct value *value = value_get_nocase(map, key);
    int64_t number = 0;

    if (!value || value->kind == VALUE_NULL)
        return 0;
    if (value_to_i64(value, &number) < 0 || (number < 0 && text_equal(type, "uint32"))) {
        mismatch(findings, value, field, type);
        return 0;
    }
    if (number < 0 || number > max) {
        finding_add(findings, FINDING_OURS, value->place, NULL, "%s is %" PRId64 ", want 0%s%.0u",
                    key, number,
                    max > 1    ? " to "
                    : max == 1 ? " or "
                               : "",
                    max);
        return 0;
    }
    return (uint32_t)number;
}

static const char *text_in(struct findings *findings, const struct value *map, const char *key,
                           const char *field)
{
    const struct value *value = value_get_nocase(map, key);

    if (!value || value->kind == VALUE_NULL)
        return "";
    if (value->kind != VALUE_STRING) {
        mismatch(findings, value, field, "string");
        return "?";
    }
    const char *text = arena_spandup(findings->arena, value->text);
    findings->failed |= !text;
    return text ?: "";
}

/* ---- reading: the parts of a checkpoint ---- */

static void read_ci(struct findings *findings, const struct value *map, struct mig_placed *gi)
{
    struct mig_placed_ci *ci = &gi->cis[gi->n_cis];

    if (!is_struct(findings, map, AT_GI ".ComputeInstances", "types.ComputeInstanceState"))
        return;
    *ci = (struct mig_placed_ci){
        .ci_profile =
            number_in(findings, map, "ProfileID", AT_CI ".ProfileID", "int", MIG_CI_PROFILES - 1),
    };
    gi->n_cis++;
    (void)number_in(findings, map, "EngProfileID", AT_CI ".EngProfileID", "int", 0);
}

static void read_placement(struct findings *findings, const struct value *map,
                           struct mig_placed *gi)
{
    const struct value *placement = value_get_nocase(map, "Placement");
    size_t n_errors = findings->n_errors;

    if (placement &&
        !is_struct(findings, placement, AT_GI ".Placement", "nvml.GpuInstancePlacement"))
        return;
    gi->placement.start = number_in(findings, placement, "Start", AT_PLACE ".Start", "uint32",
                                    MIG_MAX_MEMORY_SLICES - 1);
    gi->placement.size =
        number_in(findings, placement, "Size", AT_PLACE ".Size", "uint32", MIG_MAX_MEMORY_SLICES);
    if (gi->placement.size == 0 && findings->n_errors == n_errors)
        finding_add(findings, FINDING_OURS, (placement ?: map)->place, NULL,
                    "a GPU instance without a Size cannot be put anywhere");
}

static void read_gi(struct findings *findings, const struct value *map, struct mig_layout *layout)
{
    struct mig_placed *gi = &layout->gis[layout->n_gis];

    if (!is_struct(findings, map, AT_DEVICE ".GpuInstances", "types.GpuInstanceState"))
        return;
    *gi = (struct mig_placed){
        .gi_profile = number_in(findings, map, "ProfileID", AT_GI ".ProfileID", "int",
                                MIG_MAX_GI_PROFILES - 1),
    };
    layout->n_gis++;
    read_placement(findings, map, gi);
    const struct value *cis = list_in(findings, map, "ComputeInstances", AT_GI ".ComputeInstances",
                                      "[]types.ComputeInstanceState");
    if (cis && cis->n_items > MIG_MAX_COMPUTE_INSTANCES)
        finding_add(findings, FINDING_OURS, cis->place, NULL,
                    "%zu compute instances in one GPU instance, more than %d", cis->n_items,
                    MIG_MAX_COMPUTE_INSTANCES);
    for (size_t i = 0; cis && i < MIN(cis->n_items, (size_t)MIG_MAX_COMPUTE_INSTANCES); i++)
        read_ci(findings, cis->items[i], gi);
}

static int compare_starts(const void *a, const void *b)
{
    const struct mig_placed *x = a, *y = b;

    return (x->placement.start > y->placement.start) - (x->placement.start < y->placement.start);
}

static void read_gis(struct findings *findings, const struct value *map, struct mig_layout *layout)
{
    const struct value *gis = list_in(findings, map, "GpuInstances", AT_DEVICE ".GpuInstances",
                                      "[]types.GpuInstanceState");

    if (!gis)
        return;
    if (gis->n_items > MIG_MAX_GPU_INSTANCES)
        finding_add(findings, FINDING_OURS, gis->place, NULL,
                    "%zu GPU instances on one GPU, more than %d", gis->n_items,
                    MIG_MAX_GPU_INSTANCES);
    if (gis->n_items > 0 && !layout->enabled)
        finding_add(findings, FINDING_OURS, gis->place, NULL,
                    "a GPU with MigMode 0 has no GPU instances");
    for (size_t i = 0; i < MIN(gis->n_items, (size_t)MIG_MAX_GPU_INSTANCES); i++)
        read_gi(findings, gis->items[i], layout);
    qsort(layout->gis, layout->n_gis, sizeof(*layout->gis), compare_starts);
}

static void read_gpu(struct findings *findings, const struct value *map,
                     struct mig_checkpoint *checkpoint)
{
    struct mig_checkpoint_gpu *gpu = &checkpoint->gpus[checkpoint->n_gpus];

    if (!is_struct(findings, map, "MigState." AT_DEVICES, "types.DeviceState"))
        return;
    gpu->uuid = text_in(findings, map, "UUID", AT_DEVICE ".UUID");
    if (!gpu->uuid[0])
        finding_add(findings, FINDING_OURS, map->place, NULL, "a device without a UUID");
    for (size_t i = 0; i < checkpoint->n_gpus && gpu->uuid[0]; i++)
        if (text_equal(checkpoint->gpus[i].uuid, gpu->uuid))
            finding_add(findings, FINDING_OURS, map->place, NULL, "%s is there twice", gpu->uuid);
    gpu->layout.enabled =
        number_in(findings, map, "MigMode", AT_DEVICE ".MigMode", "mig.Mode", 1) == 1;
    read_gis(findings, map, &gpu->layout);
    checkpoint->n_gpus++;
}

static void read_state(struct findings *findings, const struct value *root,
                       struct mig_checkpoint *ret)
{
    const struct value *state = value_get_nocase(root, "MigState");

    if (root->kind != VALUE_MAP && root->kind != VALUE_NULL)
        return finding_add_mismatch(findings, root, "v1.State", NULL);
    (void)text_in(findings, root, "Version", "State.Version");
    if (!state || !is_struct(findings, state, "State.MigState", "types.MigState"))
        return;
    const struct value *gpus =
        list_in(findings, state, "Devices", "MigState." AT_DEVICES, "[]types.DeviceState");
    if (!gpus)
        return;
    if (gpus->n_items > MIG_MAX_GPUS) {
        finding_add(findings, FINDING_OURS, gpus->place, NULL, "%zu devices, more than %d",
                    gpus->n_items, MIG_MAX_GPUS);
        return;
    }
    ret->gpus = arena_new_array(findings->arena, struct mig_checkpoint_gpu, gpus->n_items);
    findings->failed |= !ret->gpus;
    for (size_t i = 0; ret->gpus && i < gpus->n_items; i++)
        read_gpu(findings, gpus->items[i], ret);
}

/* ---- the file ---- */

/* Reads the text into findings; -ENOMEM, else 0 whatever was found. */
static int read_text(struct span text, struct findings *findings, struct mig_checkpoint *ret,
                     struct err *err)
{
    static const struct yaml_limits limits = { .bytes = MIG_CHECKPOINT_MAX_BYTES };
    struct value *root;
    json_error_t error = {};

    if (text.len > MIG_CHECKPOINT_MAX_BYTES) {
        finding_add(findings, FINDING_SYNTAX, (struct place){}, NULL, "more than %d KiB",
                    MIG_CHECKPOINT_MAX_BYTES >> 10);
        return findings_failed(findings, err);
    }
    auto_(json_decrefp) json_t *json =
        json_loadb(text.ptr ? text.ptr : "", text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json && json_error_code(&error) == json_error_out_of_memory)
        return err_no_memory(err);
    if (!json) {
        struct place place = { (unsigned)MAX(error.line, 1), (unsigned)MAX(error.column, 1) };
        finding_add(findings, FINDING_SYNTAX, place, NULL, "%s", error.text);
        return findings_failed(findings, err);
    }
    int r = findings_read_yaml(findings, text, &limits, &root, err);
    if (root)
        read_state(findings, root, ret);
    findings_sort(findings); /* Go complains in order of the file */
    return r < 0 ? r : findings_failed(findings, err);
}

int mig_checkpoint_parse(struct span text, const char *name, struct arena *arena,
                         struct mig_checkpoint **ret, struct err *err)
{
    struct findings findings = { .arena = arena };
    struct mig_checkpoint *checkpoint = arena_new(arena, struct mig_checkpoint);
    enum finding_kind kind;
    int r = checkpoint ? read_text(text, &findings, checkpoint, err) : err_no_memory(err);

    if (r == 0)
        r = findings_verdict(&findings, name, &kind, err);
    if (r == -EINVAL)
        return err_wrap(err, r, "error parsing checkpoint file: unmarshal error");
    if (r == 0)
        *ret = checkpoint;
    return r;
}

int mig_checkpoint_check(struct span text, struct findings *findings, struct err *err)
{
    struct mig_checkpoint checkpoint = {};
    int r = read_text(text, findings, &checkpoint, err);

    return r < 0 ? r : (int)findings->n_errors;
}
