/*
 * Entry points of the public header that the simulator does not simulate: they are there, because
 * a missing symbol kills a lazily bound program, and refuse. Arguments are not looked at.
 */
#include "sim/gpu/nvml_door.h"

static nvmlReturn_t refuse(const char *call)
{
    auto_(door_leave) struct door door = {};
    nvmlReturn_t r = door_system(&door, call, 0);

    return r ? r : NVML_NOT_SUPPORTED;
}

#define NVML_CALL(name, parameters)
#define NVML_REFUSED(name)                                                                         \
    nvmlReturn_t name(void)                                                                        \
    {                                                                                              \
        return refuse(__func__);                                                                   \
    }
#include "sim/gpu/nvml_calls.def"
