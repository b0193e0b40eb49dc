#include "share/config_select.h"

#include <errno.h>
#include <string.h>

#include "base/text.h"

static const char *find(const char *const *files, size_t n_files, const char *name)
{
    for (size_t i = 0; i < n_files; i++)
        if (text_equal(files[i], name))
            return files[i];
    return NULL;
}

int config_select(const char *label, const char *default_name, const char *const *files,
                  size_t n_files, unsigned fallbacks, const char **ret, struct err *err)
{
    const char *wanted = *label ? label : default_name, *found;

    if (n_files == 0)
        return err_set(err, ENOENT, "no configuration files available");
    if (*wanted) {
        found = find(files, n_files, wanted);
        if (!found)
            return err_set(err, ENOENT, "specified config %s does not exist", wanted);
        *ret = found;
        return 0;
    }
    found = fallbacks & FALLBACK_NAMED ? find(files, n_files, "default") : NULL;
    if (!found && fallbacks & FALLBACK_SINGLE && n_files == 1)
        found = files[0];
    if (!found && !(fallbacks & FALLBACK_EMPTY))
        return err_set(err, ENOENT,
                       "no config was set, no default was provided, and all fallbacks failed");
    *ret = found;
    return 0;
}
