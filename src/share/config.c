#include "share/config.h"

#include <errno.h>
#include <stdio.h>

#include "share/config_options.h"
#include "share/go_text.h"

/* ---- help ---- */

static void add_flag(struct buf *out, const struct option *option)
{
    struct span rest = span_of(option->aliases), alias;

    buf_printf(out, "   --%s", option->name);
    for (bool more = rest.len > 0; span_split(&rest, ',', &more, &alias);)
        buf_printf(out, ", %s" SPAN_FMT, alias.len > 1 ? "--" : "-", SPAN_ARG(alias));
    if (option->type != TYPE_BOOL)
        buf_add_text(out, " value");
    buf_add_char(out, '\n');
}

static void add_option(struct buf *out, const struct option *option, enum program program)
{
    struct span rest = span_of(option_variables(option, program)), variable;

    add_flag(out, option);
    buf_printf(out, "        %s", option->help);
    if (option->initial[0])
        buf_printf(out, " (default: %s)", option->initial);
    for (bool more = rest.len > 0; span_split(&rest, ',', &more, &variable);)
        buf_printf(out, " [$" SPAN_FMT "]", SPAN_ARG(variable));
    buf_add_char(out, '\n');
}

int config_help(enum program program, const char *name, struct buf *ret)
{
    static const char *const purposes[PROGRAM_N] = {
        [PROGRAM_PLUGIN] = "offer the node's GPUs to the kubelet",
        [PROGRAM_FEATURE_DISCOVERY] = "label the node with what its GPUs are",
        [PROGRAM_MPS_DAEMON] = "run the MPS control daemons of shared GPUs",
    };

    buf_printf(ret, "NAME:\n   %s - %s\n\nUSAGE:\n   %s [options]\n\nOPTIONS:\n", name,
               purposes[program], name);
    for (size_t i = 0; i < OPTION_N; i++)
        if (options[i].programs & (1u << program))
            add_option(ret, &options[i], program);
    buf_add_text(ret, "   --help, -h\n        show this text\n"
                      "   --version, -v\n        show the version\n");
    return ret->failed ? -ENOMEM : 0;
}

/* ---- a file that cannot be read ---- */

int config_unreadable(int r, const char *path, struct err *err)
{
    char text[128];
    /* What upstream calls opening: the rest it notices while it reads. */
    bool opening = r == -ENOENT || r == -EACCES || r == -ENOTDIR || r == -ELOOP || r == -EPERM;

    err_set(err, -r, "%s %s: %s", opening ? "open" : "read", path,
            r == -EFBIG ? "larger than 1 MiB" : go_error(-r, text));
    return err_wrap(err, r,
                    "unable to load config: unable to finalize config: unable to parse config "
                    "file: %s",
                    opening ? "error opening config file"
                            : "error parsing config file: read error");
}
