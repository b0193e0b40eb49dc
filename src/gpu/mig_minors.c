#include "gpu/mig_minors.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/buf.h"

enum { MIG_MINORS_MAX_BYTES = 1 << 20 };

/* Takes `word` and the number after it off the front of `text`. The file has thousands of lines and
 * is read before the first list can be sent: inlined, so that comparing costs an instruction. */
[[gnu::always_inline]] static inline bool take_number(struct span *text, const char *word,
                                                      uint32_t *ret)
{
    size_t at = strlen(word), first = at, end = MIN(text->len, first + 9);
    uint32_t value = 0;

    if (text->len <= first || memcmp(text->ptr, word, first) != 0)
        return false;
    for (; at < end && text->ptr[at] >= '0' && text->ptr[at] <= '9'; at++)
        value = value * 10 + (uint32_t)(text->ptr[at] - '0');
    if (at == first)
        return false;
    *text = (struct span){ .ptr = text->ptr + at, .len = text->len - at };
    *ret = value;
    return true;
}

/* gpu0/gi1/access 12, gpu0/gi1/ci0/access 13 */
static void parse_minor_line(struct span line, struct mig_minors *ret)
{
    uint32_t gpu, gi, ci = 0, minor;

    if (!take_number(&line, "gpu", &gpu) || !take_number(&line, "/gi", &gi))
        return;
    bool has_ci = take_number(&line, "/ci", &ci);
    if (!take_number(&line, "/access ", &minor) || line.len > 0)
        return;
    if (gpu >= MIG_MINORS_GPUS || gi >= MIG_MINORS_GIS || ci >= MIG_MINORS_CIS ||
        minor > UINT16_MAX)
        return;
    if (has_ci)
        ret->ci[gpu][gi][ci] = (uint16_t)minor;
    else
        ret->gi[gpu][gi] = (uint16_t)minor;
}

void mig_minors_parse(struct span text, struct mig_minors *ret)
{
    struct span line;
    bool more = true;

    *ret = (struct mig_minors){};
    while (span_split(&text, '\n', &more, &line))
        parse_minor_line(line, ret);
}

int mig_minors_read(int root, struct mig_minors *ret, struct err *err)
{
    static const char path[] = "proc/driver/nvidia-caps/mig-minors";
    auto_(buf_done) struct buf text = BUF_MAX(MIG_MINORS_MAX_BYTES);
    auto_close int fd = openat(root, path, O_RDONLY | O_CLOEXEC);

    *ret = (struct mig_minors){};
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return err_set(err, errno, "cannot open /%s: %s", path, strerror(errno));
    int r = buf_read_all(&text, fd, err);
    if (r < 0)
        return err_wrap(err, r, "/%s", path);
    mig_minors_parse(buf_span(&text), ret);
    return 0;
}

uint32_t mig_minors_gi(const struct mig_minors *minors, uint32_t gpu_minor, uint32_t gi)
{
    return gpu_minor < MIG_MINORS_GPUS && gi < MIG_MINORS_GIS ? minors->gi[gpu_minor][gi] : 0;
}

uint32_t mig_minors_ci(const struct mig_minors *minors, uint32_t gpu_minor, uint32_t gi,
                       uint32_t ci)
{
    if (gpu_minor >= MIG_MINORS_GPUS || gi >= MIG_MINORS_GIS || ci >= MIG_MINORS_CIS)
        return 0;
    return minors->ci[gpu_minor][gi][ci];
}
