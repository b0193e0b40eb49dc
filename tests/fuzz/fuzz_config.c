/*
 * Configurations from outside. The first byte says what the rest is: a config file of the plugin
 * (c), a file of MIG configurations (m), something for `tranche check` (k), or flags and variables,
 * one a line (o).
 *
 * Besides not falling over: what is loaded keeps the promises of its struct, and the checker finds
 * an error in a file exactly when loading it fails.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "share/config.h"
#include "share/manifest.h"
#include "share/mig_config.h"

static bool is_unique(const struct sharing *sharing, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (text_equal(sharing->resources[k].name, sharing->resources[i].name))
            return false;
    return true;
}

static void check_promises(const struct config *config)
{
    const struct sharing *sharing = &config->sharing;

    assert(config->device_list != 0);
    assert(config->dev_root && config->mig_strategy_text && config->kubelet_socket);
    assert((sharing->strategy == SHARING_NONE) == (sharing->n_resources == 0));
    for (size_t i = 0; i < sharing->n_resources; i++) {
        const struct shared_resource *resource = &sharing->resources[i];
        assert(text_starts(resource->name, "nvidia.com/"));
        assert(resource->replicas >= 2 && resource->replicas <= CONFIG_MAX_REPLICAS);
        assert(sharing->per_device || resource->devices.kind == SELECT_ALL);
        assert(sharing->per_device || is_unique(sharing, i));
        assert(resource->place.line > 0);
    }
}

static int load(struct span file, enum program program, struct err *err)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    const char *const variables[] = { "MPS_ROOT=/run/nvidia/mps", NULL };
    struct config_input input = { .program = program, .environ = variables };
    struct config_warnings warnings;
    struct config *config;

    if (program != PROGRAM_PLUGIN)
        input.environ = NULL;
    int r = config_load(&input, &file, "config.yaml", true, &arena, &config, &warnings, err);
    if (r == 0)
        check_promises(config);
    for (size_t i = 0; r == 0 && i < warnings.n; i++)
        assert(warnings.items[i].text[0]);
    return r;
}

static void try_config(struct span file)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(CONFIG_ARENA_BYTES);
    struct findings findings = { .arena = &arena };
    struct err err = {}, unused = {};
    int r = load(file, PROGRAM_PLUGIN, &err), n = config_check(file, &findings, &unused);

    load(file, PROGRAM_FEATURE_DISCOVERY, &unused);
    load(file, PROGRAM_MPS_DAEMON, &unused);
    if (r == -ENOMEM || n == -ENOMEM)
        return;
    /* what one of two programs accepts is a warning */
    if (n == 0 && r < 0 && strstr(err.text, "option vfio"))
        return;
    assert((r == 0) == (n == 0));
}

static void try_mig(struct span file)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(2 * (size_t)MIG_CONFIG_ARENA_BYTES);
    struct findings findings = { .arena = &arena };
    struct mig_config_file *parsed;
    struct err err = {};
    int r = mig_config_parse(file, "f", &arena, &parsed, &err);
    int n = mig_config_check(file, &findings, &err);

    if (r == -ENOMEM || n == -ENOMEM)
        return;
    assert((r == 0) == (n == 0));
    for (size_t i = 0; r == 0 && i < parsed->n_configs; i++) {
        const struct mig_config *config = &parsed->configs[i];
        assert(config->name && config->n_entries > 0);
        for (size_t k = 0; k < config->n_entries; k++)
            (void)mig_config_matches(&config->entries[k], 0, 0x233010DE, 0);
    }
}

static void try_manifest(struct span file)
{
    auto_(arena_done) struct arena arena = ARENA_MAX(MANIFEST_ARENA_BYTES);
    struct findings findings = { .arena = &arena };
    struct manifest manifest;
    struct err err = {};

    if (manifest_check(file, &findings, &manifest, &err) < 0)
        return;
    for (size_t i = 0; i < findings.n; i++)
        assert(finding_sentence(&arena, &findings.items[i], "f"));
    for (size_t i = 1; i < findings.n; i++)
        assert(findings.items[i - 1].place.line <= findings.items[i].place.line);
}

/* A line that begins with a dash or a blank is an argument, another one a variable. */
static void try_options(struct span text)
{
    enum { MAX = 64 };
    auto_(arena_done) struct arena arena = ARENA_MAX(MIB(8));
    const char *argv[MAX], *variables[MAX + 1] = {};
    struct config_input input = { .argv = argv, .environ = variables };
    size_t n_variables = 0;
    struct span line;

    for (bool more = true; span_split(&text, '\n', &more, &line);) {
        char *word = arena_spandup(&arena, line);
        if (!word || input.argc == MAX || n_variables == MAX)
            return;
        if (word[0] == '-' || word[0] == ' ')
            argv[input.argc++] = word[0] == ' ' ? word + 1 : word;
        else
            variables[n_variables++] = word;
    }
    for (int program = 0; program < PROGRAM_N; program++) {
        enum config_request request;
        struct config *config;
        const char *file;
        struct err err = {};
        input.program = (enum program)program;
        int options = config_options(&input, &arena, &file, &request, &err);
        int whole = config_load(&input, NULL, "", true, &arena, &config, NULL, &err);
        assert(options < 0 ? whole < 0 : file != NULL);
        if (whole == 0)
            check_promises(config);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = { (const char *)data + 1, size - 1 };

    if (size == 0)
        return 0;
    switch (data[0]) {
    case 'c':
        try_config(text);
        break;
    case 'm':
        try_mig(text);
        break;
    case 'k':
        try_manifest(text);
        break;
    case 'o':
        try_options(text);
        break;
    }
    return 0;
}
