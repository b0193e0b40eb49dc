#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "fixture.h"

static const char layout[] = "h100:2x1g.10gb,1x1c.3g.40gb t4";

static void a_new_inventory_is_empty_and_owned_once(void **state)
{
    auto_(inventory_unrefp) struct inventory *inventory = NULL;

    assert_int_equal(inventory_new(&inventory, NULL), 0);
    assert_int_equal(inventory->refs, 1);
    assert_int_equal(inventory->n_gpus, 0);
    assert_int_equal(inventory->platform, PLATFORM_NONE);
    assert_non_null(arena_alloc(&inventory->arena, MIB(1)));
}

static void lack_of_memory_is_reported(void **state)
{
    struct inventory *inventory = NULL;
    struct err err = {};

    mem_fail_from(1);
    int r = inventory_new(&inventory, &err);
    mem_fail_from(0);
    assert_int_equal(r, -ENOMEM);
    assert_null(inventory);
    assert_int_equal(err.code, ENOMEM);
}

static void the_last_reference_frees(void **state)
{
    struct inventory *inventory;

    assert_int_equal(inventory_new(&inventory, NULL), 0);
    assert_ptr_equal(inventory_ref(inventory), inventory);
    inventory_unref(inventory);
    assert_int_equal(inventory->refs, 1); /* still there */
    inventory_unref(inventory);           /* the leak check sees the rest */
    inventory_unref(NULL);
}

static void a_gpu_is_found_by_its_uuid(void **state)
{
    auto_(fixture_done) struct fixture f = {};

    fixture_init(&f, "t4 t4");
    assert_ptr_equal(inventory_gpu_by_uuid(f.inventory, "GPU-1"), &f.inventory->gpus[1]);
    assert_null(inventory_gpu_by_uuid(f.inventory, "GPU-2"));
    assert_null(inventory_gpu_by_uuid(f.inventory, "GPU-"));
}

static void fill(struct fixture *f)
{
    struct inventory *inventory = f->inventory;

    fixture_init(f, layout);
    inventory = f->inventory;
    fixture_connect(f, TOPOLOGY_SYSTEM);
    fixture_nvlink(f, 0, 1, 4);
    inventory->gpus[0].mig_profiles = arena_new(&inventory->arena, struct mig_profile_info);
    assert_non_null(inventory->gpus[0].mig_profiles);
    inventory->gpus[0].mig_profiles[0].name = "1g.10gb";
    inventory->gpus[0].n_mig_profiles = 1;
    inventory->gpus[1].fabric = (struct gpu_fabric){ true, "c1", 1 };
    inventory->problems = arena_new(&inventory->arena, struct gpu_problem);
    assert_non_null(inventory->problems);
    inventory->problems[0] = (struct gpu_problem){ 2, "lost" };
    inventory->n_problems = 1;
}

static void the_same_hardware_read_twice_is_equal(void **state)
{
    auto_(fixture_done) struct fixture a = {}, b = {};

    fill(&a);
    fill(&b);
    assert_true(inventory_equal(a.inventory, b.inventory));
    assert_true(inventory_equal(a.inventory, a.inventory));
    (void)inventory_ref(b.inventory); /* who holds it does not matter */
    assert_true(inventory_equal(a.inventory, b.inventory));
    inventory_unref(b.inventory);
}

static void unknown_readings_are_equal_whatever_they_hold(void **state)
{
    auto_(fixture_done) struct fixture a = {}, b = {};

    fill(&a);
    fill(&b);
    a.inventory->gpus[0].numa_node = (struct reading){ .value = 7 };
    assert_true(inventory_equal(a.inventory, b.inventory));
    a.inventory->gpus[1].links[0].known = b.inventory->gpus[1].links[0].known = false;
    a.inventory->gpus[1].links[0].level = 33;
    assert_true(inventory_equal(a.inventory, b.inventory));
}

#define CHANGE(name, statement)                                                                    \
    static void name(struct inventory *i)                                                          \
    {                                                                                              \
        statement;                                                                                 \
    }
CHANGE(platform, i->platform = PLATFORM_WSL)
CHANGE(driver, i->driver_version = "550.90.08")
CHANGE(no_driver, i->driver_version = NULL)
CHANGE(cuda, i->cuda_version.value++)
CHANGE(machine, i->machine = NULL)
CHANGE(vgpu_scan, i->vgpu.scanned = !i->vgpu.scanned)
CHANGE(vgpu_branch, i->vgpu.host_driver_branch = "r460_00")
CHANGE(fewer_gpus, i->n_gpus--)
CHANGE(problem, i->problems[0].text = "found")
CHANGE(uuid, i->gpus[1].uuid = "GPU-9")
CHANGE(minor, i->gpus[1].minor = 9)
CHANGE(class, i->gpus[1].pci_class.known = false)
CHANGE(numa, i->gpus[1].numa_node = READING(0))
CHANGE(memory, i->gpus[1].memory_bytes.value++)
CHANGE(clique, i->gpus[1].fabric.clique_id++)
CHANGE(cluster, i->gpus[1].fabric.cluster_uuid[1]++)
CHANGE(health, i->gpus[1].healthy = false)
CHANGE(reason, i->gpus[1].unhealthy_reason = "XID 79")
CHANGE(pending, i->gpus[0].mig_pending = false)
CHANGE(mig_gone, i->gpus[0].n_mig_devices--)
CHANGE(mig_uuid, i->gpus[0].mig_devices[1].uuid = "MIG-9")
CHANGE(mig_place, i->gpus[0].mig_devices[1].start++)
CHANGE(mig_attribute, i->gpus[0].mig_devices[1].attributes.ofas++)
CHANGE(mig_cap, i->gpus[0].mig_devices[1].ci_cap_path = NULL)
CHANGE(mig_health, i->gpus[0].mig_devices[1].healthy = false)
CHANGE(mig_profile, i->gpus[0].mig_profiles[0].max_instances++)
CHANGE(nvlinks, i->gpus[1].links[0].n_nvlinks++)
CHANGE(level, i->gpus[1].links[0].level = TOPOLOGY_NODE)
CHANGE(no_links, i->gpus[1].links = NULL)
CHANGE(control_node, i->n_control_nodes--)
CHANGE(imex, i->imex_channel0 = true)
CHANGE(gds, i->gds_nodes = true)

static void every_change_of_the_hardware_is_seen(void **state)
{
    static void (*const changes[])(struct inventory *) = {
        platform,   driver,        no_driver, cuda,       machine,     vgpu_scan, vgpu_branch,
        fewer_gpus, problem,       uuid,      minor,      class,       numa,      memory,
        clique,     cluster,       health,    reason,     pending,     mig_gone,  mig_uuid,
        mig_place,  mig_attribute, mig_cap,   mig_health, mig_profile, nvlinks,   level,
        no_links,   control_node,  imex,      gds,
    };

    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        auto_(fixture_done) struct fixture a = {}, b = {};
        fill(&a);
        fill(&b);
        changes[i](b.inventory);
        if (inventory_equal(a.inventory, b.inventory))
            fail_msg("change %zu was not seen", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_inventory_is_empty_and_owned_once),
        cmocka_unit_test(lack_of_memory_is_reported),
        cmocka_unit_test(the_last_reference_frees),
        cmocka_unit_test(a_gpu_is_found_by_its_uuid),
        cmocka_unit_test(the_same_hardware_read_twice_is_equal),
        cmocka_unit_test(unknown_readings_are_equal_whatever_they_hold),
        cmocka_unit_test(every_change_of_the_hardware_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
