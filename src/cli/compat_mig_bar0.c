/*
 * Where upstream's tool does not ask NVML: without the nvidia module, or with one from before MIG,
 * modes are read and changed by the registers of the boards (gpu/mig_bar0.h), and nothing else can
 * be (spec/mig §4.5).
 */
#include <errno.h>

#include "base/file.h"
#include "cli/compat_mig_parted.h"
#include "cli/mig.h"
#include "gpu/mig_bar0.h"

enum { FIRST_NVML_WITH_MIG = 11, MODULES_MAX_BYTES = 1 << 20 };

/* A simulated node without files of its own: those of this machine are not its. */
static bool has_files(const struct mig_site *site)
{
    return !site->simulated || *site->root;
}

static bool lacks_module(struct mig_site *site)
{
    struct span modules;

    return has_files(site) &&
           file_read(site->root_fd, "proc/modules", MODULES_MAX_BYTES, &site->arena, &modules,
                     NULL) == 0 &&
           !mig_bar0_lists_nvidia(modules);
}

static bool predates_mig(const struct mig_site *site)
{
    unsigned major = nvml_major(site->nvml);

    return has_files(site) && major > 0 && major < FIRST_NVML_WITH_MIG;
}

const char *parted_without_nvml(struct mig_site *site)
{
    if (site->nvml)
        return predates_mig(site) ? "NVML version unsupported for performing MIG operations" : NULL;
    return lacks_module(site) ? "nvidia module not loaded" : NULL;
}

int parted_bar0_look(struct mig_site *site, struct err *err)
{
    /* Nobody boots a simulated board while it is waited for. */
    struct mig_bar0_patience patience =
        site->simulated ? (struct mig_bar0_patience){} : MIG_BAR0_PATIENCE;

    return mig_bar0_look(site->root_fd, patience, &site->arena, &site->node, err);
}
