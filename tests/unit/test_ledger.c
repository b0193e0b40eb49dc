#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/ledger.h"
#include "base/text.h"

static void a_device_never_given_is_not_known(void **state)
{
    auto_(ledger_done) struct ledger ledger = {};

    assert_null(ledger_find(&ledger, "GPU-0"));
}

static void the_last_time_and_the_number_of_times_are_kept(void **state)
{
    auto_(ledger_done) struct ledger ledger = {};

    ledger_note(&ledger, "GPU-0", 10);
    ledger_note(&ledger, "GPU-1", 20);
    ledger_note(&ledger, "GPU-0", 30);
    assert_int_equal(ledger_find(&ledger, "GPU-0")->last_ns, 30);
    assert_int_equal(ledger_find(&ledger, "GPU-0")->n, 2);
    assert_int_equal(ledger_find(&ledger, "GPU-1")->n, 1);
}

static bool is_zero(void *user, const char *id)
{
    return text_equal(id, "GPU-0");
}

static void devices_that_are_gone_are_forgotten(void **state)
{
    auto_(ledger_done) struct ledger ledger = {};

    ledger_note(&ledger, "GPU-0", 10);
    ledger_note(&ledger, "GPU-1", 20);
    ledger_note(&ledger, "GPU-2", 30);
    ledger_keep(&ledger, is_zero, NULL);
    assert_non_null(ledger_find(&ledger, "GPU-0"));
    assert_null(ledger_find(&ledger, "GPU-1"));
    assert_null(ledger_find(&ledger, "GPU-2"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_never_given_is_not_known),
        cmocka_unit_test(the_last_time_and_the_number_of_times_are_kept),
        cmocka_unit_test(devices_that_are_gone_are_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
