#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "share/config_select.h"

/* Vectors 71 and 72 of spec/device-plugin §10.5 and the table of spec/operator §3.5. */
static const struct {
    const char *what, *label, *by_default;
    const char *files[3];
    unsigned fallbacks;
    const char *wanted; /* NULL: the empty configuration */
    const char *error;
} cases[] = {
    { "71: the file called default",
      "",
      "",
      { "default", "b" },
      FALLBACK_NAMED | FALLBACK_SINGLE,
      "default" },
    { "71: a label chooses", "b", "", { "default", "b" }, FALLBACK_NAMED | FALLBACK_SINGLE, "b" },
    { "71: a label that names nothing",
      "zz",
      "",
      { "default", "b" },
      FALLBACK_NAMED,
      NULL,
      "specified config zz does not exist" },
    { "72: the only file", "", "", { "a" }, FALLBACK_NAMED | FALLBACK_SINGLE, "a" },
    { "72: two files and no default",
      "",
      "",
      { "a", "b" },
      FALLBACK_NAMED | FALLBACK_SINGLE,
      NULL,
      "no config was set, no default was provided, and all fallbacks failed" },
    { "72: the empty fallback",
      "",
      "",
      { "a", "b" },
      FALLBACK_NAMED | FALLBACK_SINGLE | FALLBACK_EMPTY,
      NULL },
    { "a label wins over the default", "b", "a", { "a", "b" }, 0, "b" },
    { "the default without a label", "", "a", { "a", "b" }, 0, "a" },
    { "a default that names nothing",
      "",
      "x",
      { "a" },
      FALLBACK_EMPTY,
      NULL,
      "specified config x does not exist" },
    { "under the operator a single file is not chosen", "", "", { "any" }, FALLBACK_EMPTY, NULL },
    { "no files at all", "a", "", {}, FALLBACK_EMPTY, NULL, "no configuration files available" },
};

static void the_rules_of_the_config_manager_hold(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *got = "untouched";
        struct err err = {};
        size_t n = 0;

        while (n < 3 && cases[i].files[n])
            n++;
        int r = config_select(cases[i].label, cases[i].by_default, cases[i].files, n,
                              cases[i].fallbacks, &got, &err);
        if (cases[i].error) {
            if (r != -ENOENT || !text_equal(err.text, cases[i].error) ||
                !text_equal(got, "untouched"))
                fail_msg("%s: %d, %s", cases[i].what, r, err.text);
        } else if (r != 0 || (got == NULL) != (cases[i].wanted == NULL) ||
                   (got && !text_equal(got, cases[i].wanted))) {
            fail_msg("%s: %d, %s", cases[i].what, r, got ? got : "(empty)");
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_rules_of_the_config_manager_hold) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
