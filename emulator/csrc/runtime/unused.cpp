// Entry points that torch_npu's libraries link to, of features that the emulator does not have. They fail and say so, but for those that
// only observe (logs, marks of the profiler), where to do nothing is to do it right.
#include "errors.h"

using namespace npu_emulator;

// The parameters are never looked at, so the C names need no other signature than this.
#define WITHOUT(NAME, WHAT) \
    CANN_API int NAME(...) { return unsupported(#NAME, WHAT); }
#define OBSERVER(NAME) \
    CANN_API long NAME(...) { return 0; }

WITHOUT(aclrtBinaryGetFunction, "compiled kernels")
WITHOUT(aclrtBinaryLoadFromData, "compiled kernels")
WITHOUT(aclrtGetFunctionAddr, "compiled kernels")
WITHOUT(rtDevBinaryRegister, "compiled kernels")
WITHOUT(rtFunctionRegister, "compiled kernels")
WITHOUT(rtGetC2cCtrlAddr, "compiled kernels")
WITHOUT(rtKernelLaunch, "compiled kernels")

WITHOUT(aclrtDeviceGetBareTgid, "device memory shared between processes")
WITHOUT(aclrtMemExportToShareableHandle, "device memory shared between processes")
WITHOUT(aclrtMemImportFromShareableHandle, "device memory shared between processes")
WITHOUT(aclrtMemSetPidToShareableHandle, "device memory shared between processes")

WITHOUT(aclmdlFinalizeDump, "dumps of operators")
WITHOUT(aclmdlInitDump, "dumps of operators")
WITHOUT(aclmdlSetDump, "dumps of operators")
WITHOUT(aclrtProcessReport, "callbacks from streams")

OBSERVER(aclAppLog)
OBSERVER(MsprofGetHashId)
OBSERVER(MsprofRegisterCallback)
OBSERVER(MsprofReportAdditionalInfo)
OBSERVER(MsprofReportApi)
OBSERVER(MsprofReportCompactInfo)
OBSERVER(MsprofSysCycleTime)
