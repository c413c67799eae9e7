// Reporting errors to torch_npu: a code, and the text that goes with it.
#pragma once
#include <string>

#include "emulator.h"

namespace npu_emulator {

/// The text of the last error.
std::string last_error();

/// set_error(message) and returns the code, so that a function can `return fail(code, message)`.
int fail(int code, const std::string& message);

/// Fails with ACL_ERROR_RT_FEATURE_NOT_SUPPORT and "NAME: the emulator has no WHAT."
int unsupported(const char* name, const char* what);

}  // namespace npu_emulator
