#include "cli/compat.h"

#include <stdio.h>

#include "base/buf.h"

static void print_help(enum program program, const char *name)
{
    auto_(buf_done) struct buf text = BUF_MAX(MIB(1));

    if (config_help(program, name, &text) == 0)
        fputs(buf_text(&text), stdout);
}

void compat_print_usage(enum program program, const char *name, const char *message)
{
    printf("Incorrect Usage: %s\n\n", message);
    print_help(program, name);
    fflush(stdout);
}

int compat_answer(enum program program, const char *name, enum config_request request)
{
    if (request == CONFIG_SHOW_HELP)
        print_help(program, name);
    else
        printf("%s version %s\n", name, TRANCHE_VERSION);
    fflush(stdout);
    return 1;
}
