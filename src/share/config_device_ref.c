#include "share/config_device_ref.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

static struct span after(struct span text, size_t n)
{
    return (struct span){ .ptr = text.ptr + n, .len = text.len - n };
}

static bool take_prefix(struct span *text, struct span prefix)
{
    if (text->len < prefix.len || strncmp(text->ptr, prefix.ptr, prefix.len) != 0)
        return false;
    *text = after(*text, prefix.len);
    return true;
}

static bool is_hex(struct span text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!isxdigit((unsigned char)text.ptr[i]))
            return false;
    return true;
}

/* 8-4-4-4-12 hexadecimal digits */
static bool is_dashed_uuid(struct span text)
{
    static const size_t groups[] = { 8, 4, 4, 4, 12 };

    if (text.len != 36)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        if (!is_hex((struct span){ .ptr = text.ptr, .len = groups[i] }))
            return false;
        if (groups[i] < text.len && text.ptr[groups[i]] != '-')
            return false;
        text = after(text, MIN(groups[i] + 1, text.len));
    }
    return true;
}

/* Upstream's library also reads the forms without dashes, in braces and as a URN. */
static bool is_uuid(struct span text)
{
    if (text.len == 32)
        return is_hex(text);
    if (text.len == 38 && text.ptr[0] == '{' && text.ptr[37] == '}')
        text = (struct span){ .ptr = text.ptr + 1, .len = 36 };
    if (text.len == 45 && strncasecmp(text.ptr, "urn:uuid:", 9) == 0)
        text = after(text, 9);
    return is_dashed_uuid(text);
}

static bool is_gpu_uuid(struct span text)
{
    return take_prefix(&text, SPAN("GPU-")) && is_uuid(text);
}

/* GPU-<uuid>/<gi>/<ci> */
static bool is_mig_path(struct span text)
{
    struct span part;
    bool more = true;
    uint64_t id;

    if (!span_split(&text, '/', &more, &part) || !is_gpu_uuid(part))
        return false;
    for (int i = 0; i < 2; i++)
        if (!span_split(&text, '/', &more, &part) || text_to_u64(part, &id) < 0)
            return false;
    return !more;
}

static bool is_mig_uuid(struct span text)
{
    return take_prefix(&text, SPAN("MIG-")) && (is_uuid(text) || is_mig_path(text));
}

/* No node has so many: an index that does not fit is one that matches nothing. */
static uint32_t clamp_index(uint64_t index)
{
    return (uint32_t)MIN(index, (uint64_t)UINT32_MAX);
}

int device_ref_read(struct span text, struct arena *arena, struct device_ref *ret)
{
    struct span rest = text, part;
    bool more = true;
    uint64_t gpu, mig;

    if (is_gpu_uuid(text) || is_mig_uuid(text)) {
        ret->kind = DEVICE_REF_UUID;
        ret->uuid = arena_spandup(arena, text);
        return ret->uuid ? 0 : -ENOMEM;
    }
    if (!span_split(&rest, ':', &more, &part) || text_to_u64(part, &gpu) < 0)
        return -EINVAL;
    ret->gpu_index = clamp_index(gpu);
    ret->kind = DEVICE_REF_GPU_INDEX;
    if (!more)
        return 0;
    if (text_to_u64(rest, &mig) < 0)
        return -EINVAL;
    ret->kind = DEVICE_REF_MIG_INDEX;
    ret->mig_index = clamp_index(mig);
    return 0;
}

bool device_ref_equal(const struct device_ref *a, const struct device_ref *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == DEVICE_REF_UUID)
        return strcasecmp(a->uuid, b->uuid) == 0;
    return a->gpu_index == b->gpu_index &&
           (a->kind == DEVICE_REF_GPU_INDEX || a->mig_index == b->mig_index);
}
