// What the rooms of libascendcl.so share with each other (emulator.h is what they share with the other libraries).
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "acl/acl.h"
#include "acl/acl_op.h"
#include "acl/acl_rt.h"
#include "acl/error_codes/rt_error_codes.h"
#include "emulator.h"
#include "errors.h"

namespace npu_emulator {

// ---- text to numbers (settings.cpp); nothing where the text is not exactly that -----------------------------------------

std::optional<int64_t> parse_whole(const std::string& text);
std::optional<double> parse_number(const std::string& text);
std::optional<double> parse_duration(const std::string& text);  // seconds; "50us", "1ms", "2s", "0.5"

// ---- devices (devices.cpp) --------------------------------------------------------------------------------------------------

int visible_cards();
int physical_card(int card);  // the number of the emulated card behind an index into the visible ones
bool card_chosen();           // whether this thread has a current card
bool valid_card(int card);

/// Makes a card the current one of this thread for as long as the object lives.
class CardGuard {
  public:
    explicit CardGuard(int card);
    ~CardGuard();
    CardGuard(const CardGuard&) = delete;

  private:
    int previous_;
};

// ---- streams (streams.cpp) ----------------------------------------------------------------------------------------------------

/// As submit(), for what a stream does even after a failure: `task` gets the error code that the stream is stuck in, or 0.
int submit_always(void* stream, std::function<void(int)> task);

/// Notes what the stream of this thread is doing, for the message of a synchronisation that runs out of time.
void note_call(const char* name);

/// Waits for every stream of a card. Returns the error of a failed stream, ACL_ERROR_RT_STREAM_SYNC_TIMEOUT after
/// timeout_ms, or 0. A negative timeout waits for ever.
int synchronize_card(int card, int timeout_ms);

/// Drops what the streams of a card have still to do, and waits, not for ever, for what they are doing.
void abandon_streams(int card);

/// Whether this process was forked from one that had used a card: the threads of its streams do not exist here.
bool forked();

// ---- the gate for runtime calls that apply actions of their own (hooks.cpp) -----------------------------------------------

struct Passed {
    int code = 0;  // of an injected failure
    Faults faults;
    const Action* find(const char* action) const;  // of the first fault that has it, or null
    double changed(double value) const;            // after scale, bias and zero
};

/// As enter(), with an injected failure as the code that the runtime call is to return.
Passed pass(const Call& call);

/// The same for a call that applies these actions itself ("null tail stale").
Passed pass(const char* name, const char* actions, void* stream = nullptr);

}  // namespace npu_emulator
