#include "agent/reload.h"

#include <fcntl.h>

#include "base/file.h"
#include "base/mem.h"

static int read_file(const char *path, struct loaded *loaded, struct err *err)
{
    if (!path[0])
        return 0;
    int r = file_read(AT_FDCWD, path, CONFIG_MAX_FILE_BYTES, &loaded->arena, &loaded->file, NULL);
    if (r < 0)
        return config_unreadable(r, path, err);
    loaded->has_file = true;
    return 0;
}

int loaded_read(const struct config_input *input, bool nvml_found, struct loaded **ret,
                struct err *err)
{
    auto_(loaded_unrefp) struct loaded *loaded = mem_alloc(sizeof(*loaded));
    enum config_request request;
    struct config *config;
    const char *path;

    if (!loaded)
        return err_no_memory(err);
    *loaded = (struct loaded){ .refs = 1, .arena = ARENA_MAX(CONFIG_ARENA_BYTES) };
    int r = config_options(input, &loaded->arena, &path, &request, err);
    if (r == 0)
        r = read_file(path, loaded, err);
    if (r == 0)
        r = config_load(input, loaded->has_file ? &loaded->file : NULL, path, nvml_found,
                        &loaded->arena, &config, &loaded->warnings, err);
    if (r < 0)
        return r;
    loaded->config = config;
    *ret = steal(loaded);
    return 0;
}

struct loaded *loaded_ref(struct loaded *loaded)
{
    loaded->refs++;
    return loaded;
}

void loaded_unref(struct loaded *loaded)
{
    if (!loaded || --loaded->refs > 0)
        return;
    arena_done(&loaded->arena);
    mem_free(loaded);
}

bool loaded_same(const struct loaded *a, const struct loaded *b)
{
    return a->has_file == b->has_file && (!a->has_file || span_equal(a->file, b->file));
}
