#include <errno.h>
#include <inttypes.h>

#include "codec/yaml.h"
#include "share/config.h"
#include "share/config_file.h"
#include "share/config_validate.h"
#include "share/finding.h"

/* What is legal and yet hardly meant, on top of what a load warns of. */
struct check {
    struct findings *findings;
    struct settings settings;
    struct sharing_file sharing_file;
    struct sharing sharing;
};

/* ---- the text ---- */

static bool is_marker(struct span line)
{
    return line.len >= 3 && memcmp(line.ptr, "---", 3) == 0 &&
           (line.len == 3 || line.ptr[3] == ' ' || line.ptr[3] == '\t' || line.ptr[3] == '\r');
}

/* A line that begins no document: blank, a comment, a directive. */
static bool says_nothing(struct span line)
{
    struct span text = span_trim(line);

    return text.len == 0 || text.ptr[0] == '#' || text.ptr[0] == '%';
}

/* Only the first document counts, and `---` in the first column always ends one. */
static void warn_of_documents(struct findings *findings, struct span file)
{
    struct span rest = file, line;
    unsigned number = 0;
    bool begun = false;

    for (bool more = true; span_split(&rest, '\n', &more, &line);) {
        number++;
        if (is_marker(line) && begun) {
            finding_add(findings, FINDING_WARNING, (struct place){ number, 1 }, NULL,
                        "only the first document of a file is read; what follows has no effect");
            return;
        }
        begun |= !says_nothing(line);
    }
}

/* ---- options ---- */

static void warn_of_interval(struct check *check)
{
    const struct setting *setting = &check->settings.of[OPTION_SLEEP_INTERVAL];

    if (setting->source == FROM_FILE && setting->number < 1000000000)
        finding_add(check->findings, FINDING_WARNING, setting->place, "such as 60s",
                    "a sleepInterval of %" PRId64 " ns, less than a second; a number without a "
                    "unit means nanoseconds",
                    setting->number);
}

/* ---- sharing ---- */

static bool is_mig_name(const char *name)
{
    return text_starts(name, "nvidia.com/mig-");
}

/* Upstream ignores an entry that nothing on the node is named like. */
static void warn_of_name(struct check *check, const struct shared_resource *resource)
{
    const struct setting *strategy = &check->settings.of[OPTION_MIG_STRATEGY];
    struct findings *findings = check->findings;

    if (!is_mig_name(resource->name)) {
        if (!text_equal(resource->name, "nvidia.com/gpu"))
            finding_add(findings, FINDING_WARNING, resource->place, NULL,
                        "nothing is named %s; resources are nvidia.com/gpu and "
                        "nvidia.com/mig-<profile>",
                        resource->name);
        return;
    }
    if (check->sharing.strategy == SHARING_MPS)
        finding_add(findings, FINDING_WARNING, resource->place, "share MIG devices by timeSlicing",
                    "MIG devices cannot be shared by MPS");
    else if (strategy->source == FROM_FILE && !text_equal(strategy->text, "mixed"))
        finding_add(findings, FINDING_WARNING, resource->place,
                    "share nvidia.com/gpu, or set migStrategy: mixed",
                    "there is no %s under migStrategy %s", resource->name, strategy->text);
}

static void warn_of_resources(struct check *check)
{
    enum { MPS_CLIENTS = 48, MPS_CLIENTS_BEFORE = 16, NAME_MAX_LEN = 63 };

    for (size_t i = 0; i < check->sharing.n_resources; i++) {
        const struct shared_resource *resource = &check->sharing.resources[i];
        warn_of_name(check, resource);
        if (resource->rename && strlen(resource->rename) > NAME_MAX_LEN)
            finding_add(check->findings, FINDING_WARNING, resource->place, NULL,
                        "%s is longer than %d characters", resource->rename, NAME_MAX_LEN);
        if (check->sharing.strategy == SHARING_MPS && resource->replicas > MPS_CLIENTS)
            finding_add(check->findings, FINDING_WARNING, resource->place, NULL,
                        "an MPS daemon refuses it: invalid device maximum allowed replicas "
                        "exceeded: %u > %d; on GPUs before compute capability 7.5 the most is %d",
                        resource->replicas, MPS_CLIENTS, MPS_CLIENTS_BEFORE);
    }
}

/* ---- all of it ---- */

static void check_tree(struct check *check, const struct value *root)
{
    struct findings *findings = check->findings;

    config_file_read(findings, root, &check->settings, &check->sharing_file);
    warn_of_interval(check);
    config_sharing_settle(findings, &check->sharing_file, &check->sharing);
    config_validate(&(struct validation){ .findings = findings,
                                          .settings = &check->settings,
                                          .sharing = &check->sharing,
                                          .program = PROGRAM_PLUGIN,
                                          .nvml_found = true,
                                          .file_only = true });
    warn_of_resources(check);
}

int config_check(struct span file, struct findings *findings, struct err *err)
{
    static const struct yaml_limits limits = { .bytes = CONFIG_MAX_FILE_BYTES };
    struct check check = { .findings = findings };
    struct config_input nothing = { .program = PROGRAM_PLUGIN };
    enum config_request request;
    struct yaml_fault fault = {};
    struct value *root = NULL;
    int r = settings_read(&nothing, findings->arena, &check.settings, &request, err);

    if (r == 0)
        r = yaml_read(file, &limits, findings->arena, &root, &fault);
    if (r == -ENOMEM)
        return err_no_memory(err);
    if (r < 0) {
        finding_add(findings, FINDING_SYNTAX, fault.place, NULL, "%s", fault.text);
    } else {
        warn_of_documents(findings, file);
        check_tree(&check, root);
    }
    findings_sort(findings);
    r = findings_failed(findings, err);
    return r < 0 ? r : (int)findings->n_errors;
}
