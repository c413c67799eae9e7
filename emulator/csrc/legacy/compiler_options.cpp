// The options of the graph compiler. There is nothing to compile here: they are accepted and have no effect.
#include <cstring>

#include "../runtime/emulator.h"

namespace {
constexpr const char* kOff = "disable";
}

CANN_API int aclSetCompileopt(int /*option*/, const char* /*value*/) { return 0; }
CANN_API size_t aclGetCompileoptSize(int /*option*/) { return std::strlen(kOff) + 1; }
CANN_API int aclGetCompileopt(int /*option*/, char* value, size_t length) {
    std::strncpy(value, kOff, length);
    return 0;
}
CANN_API int aclrtGetSysParamOpt(int /*option*/, int64_t* value) {
    *value = 0;
    return 0;
}
