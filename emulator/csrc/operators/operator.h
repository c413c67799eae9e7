// How an operator of the emulated libopapi.so is declared:
//
//     OPERATOR(aclnnAdd, Elementwise, (Tensor self, Tensor other, Scalar alpha, Output out), out = at::add(self, other, alpha))
//
// is the C function pair aclnnAddGetWorkspaceSize / aclnnAdd: its name, its kind (what noise and saturation do to it), its
// arguments in the order in which torch_npu passes them, and a body of libtorch CPU calls. A struct that wraps one pointer is
// passed exactly like that pointer, so the types below give the C signature (struct CType) and, as C++ values, what the body
// computes with. Arguments are copied when the operator is planned (GetWorkspaceSize), because torch_npu destroys its own
// before the operator runs.
//
// Assigning to an Output casts and reshapes into the device buffer. emulator/README.md shows how to add an operator.
#pragma once
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../runtime/emulator.h"

// ---- the objects of the C interface (objects.cpp creates and destroys them) ------------------------------------------------

struct aclTensor {
    std::vector<int64_t> size, stride;
    int64_t offset;  // in elements
    int type;        // aclDataType
    void* data;
};
struct aclScalar {
    int type;
    alignas(16) char bytes[16];
};
struct aclIntArray {
    std::vector<int64_t> values;
};
struct aclFloatArray {
    std::vector<float> values;
};
struct aclBoolArray {
    std::vector<char> values;
};
struct aclTensorList {
    std::vector<const aclTensor*> values;
};
struct aclScalarList {
    std::vector<const aclScalar*> values;
};

namespace npu_emulator {

// ---- the types of arguments ----------------------------------------------------------------------------------------------------

using at::Scalar;
using at::Tensor;  // an input; undefined where torch_npu passes a null pointer
using OptionalScalar = std::optional<at::Scalar>;
using Tensors = std::vector<Tensor>;
using Scalars = std::vector<at::Scalar>;
using DType = at::ScalarType;
using Text = std::string;

/// aclIntArray. `given` tells a null pointer from an empty array.
struct Ints {
    bool given = false;
    std::vector<int64_t> values;
    operator at::IntArrayRef() const { return values; }
    at::IntArrayRef ref() const { return values; }
    /// As dimensions of a reduction: an empty array means all of them.
    at::OptionalIntArrayRef dims() const { return values.empty() ? at::OptionalIntArrayRef() : at::OptionalIntArrayRef(values); }
};

/// aclBoolArray.
struct Bools {
    std::vector<char> values;
    bool operator[](size_t i) const { return i < values.size() && values[i]; }
};

/// A tensor that the operator writes, or reads and writes: the device buffer itself.
struct Output {
    Tensor tensor;  // undefined where torch_npu passes a null pointer
    /// Casts and reshapes into the buffer. Does nothing where the output or the value is undefined, or the output is empty.
    void operator=(const Tensor& value) const;
    operator const Tensor&() const { return tensor; }
    const Tensor* operator->() const { return &tensor; }
    Tensor& operator*() const { return const_cast<Tensor&>(tensor); }
};

/// An output whose shape depends on the data (nonzero, unique): the buffer has the largest size, assigning sets the real one.
struct DynamicOutput : Output {
    aclTensor* described;
    void operator=(const Tensor& value) const;
};

/// aclTensorList of outputs.
struct Outputs {
    std::vector<Tensor> tensors;
    size_t size() const { return tensors.size(); }
    Output operator[](size_t i) const { return {tensors[i]}; }
};

at::ScalarType torch_dtype(int acl_data_type);  // throws where torch has no such type; Undefined for ACL_DT_UNDEFINED (-1)
Tensor wrap(const aclTensor* tensor);           // a view of device memory; undefined for nullptr
at::Scalar wrap(const aclScalar* scalar);

/// How each argument type is passed in C, and how its value is copied at planning time.
template <class T>
struct CType {
    using type = T;
    static T copy(T value) { return value; }
};
template <class Value, class Raw, Value (*Copy)(Raw)>
struct Wrapped {
    using type = Raw;
    static Value copy(Raw raw) { return Copy(raw); }
};
Output wrap_output(const aclTensor*);
DynamicOutput wrap_dynamic(aclTensor*);
at::Scalar wrap_scalar(const aclScalar*);  // 0 for nullptr
OptionalScalar wrap_optional(const aclScalar*);
Ints wrap_ints(const aclIntArray*);
Bools wrap_bools(const aclBoolArray*);
Text wrap_text(const char*);
Tensors wrap_tensors(const aclTensorList*);
Outputs wrap_outputs(const aclTensorList*);
Scalars wrap_scalars(const aclScalarList*);
template <>
struct CType<Tensor> : Wrapped<Tensor, const aclTensor*, wrap> {};
template <>
struct CType<Output> : Wrapped<Output, const aclTensor*, wrap_output> {};
template <>
struct CType<DynamicOutput> : Wrapped<DynamicOutput, aclTensor*, wrap_dynamic> {};
template <>
struct CType<Scalar> : Wrapped<Scalar, const aclScalar*, wrap_scalar> {};
template <>
struct CType<OptionalScalar> : Wrapped<OptionalScalar, const aclScalar*, wrap_optional> {};
template <>
struct CType<Ints> : Wrapped<Ints, const aclIntArray*, wrap_ints> {};
template <>
struct CType<Bools> : Wrapped<Bools, const aclBoolArray*, wrap_bools> {};
template <>
struct CType<DType> : Wrapped<DType, int, torch_dtype> {};
template <>
struct CType<Text> : Wrapped<Text, const char*, wrap_text> {};
template <>
struct CType<Tensors> : Wrapped<Tensors, const aclTensorList*, wrap_tensors> {};
template <>
struct CType<Outputs> : Wrapped<Outputs, const aclTensorList*, wrap_outputs> {};
template <>
struct CType<Scalars> : Wrapped<Scalars, const aclScalarList*, wrap_scalars> {};

// ---- kinds, registry ---------------------------------------------------------------------------------------------------------------

/// What an operator does to its numbers, which decides what saturation mode and precision noise do to its outputs.
enum class Kind {
    Movement,      // copies, gathers, fills: bits as they are; never saturates, no noise
    Random,        // draws numbers: never saturates, no noise
    Elementwise,   // correctly rounded arithmetic, comparisons: saturates, no noise
    Approximate,   // functions that hardware approximates (exp, tanh, pow, gelu, an optimizer's step): noise of a few ULP
    Accumulating,  // sums: reductions, normalisation, losses: noise of another summation order
    Matmul,        // sums of products on the cube unit: another summation order, HF32
};

struct OperatorInfo {
    const char* name;
    const char* parameters;  // as written in the declaration: "(Tensor self, Tensor other, Scalar alpha, Output out)"
    Kind kind;
    OperatorInfo(const char* name, const char* parameters, Kind kind);  // enters the registry
    /// Of a graph operator, which csrc/legacy/ lists.
    OperatorInfo(const char* name, Kind kind) : name(name), parameters("()"), kind(kind) {}
};

/// Libtorch kernels as this library calls them: no autograd, no autocast, no functionalisation.
struct CpuDispatch {
    c10::impl::ForceDispatchKeyGuard keys;
    c10::NoGradGuard no_grad;
    CpuDispatch();
};

// ---- one execution (execution.cpp) ------------------------------------------------------------------------------------------------

/// One run of an operator: passes the hooks, runs the body, then applies noise, faults and saturation to the outputs.
class Execution {
  public:
    Execution(const OperatorInfo& info, void* stream, std::vector<Tensor> outputs);
    ~Execution();
    Execution(const Execution&) = delete;
    bool dropped() const;                       // a fault says that the body is not to run
    bool ignores(const char* parameter) const;  // a fault says that this argument counts as absent
    bool any_ignored() const;
    Tensor matmul_input(const Tensor& input) const;  // rounded where noise says HF32
    void finish();                                   // noise, faults, saturation

  private:
    struct State;
    std::unique_ptr<State> state_;
};

/// The faults that fire on the operator now executing on this thread (random number generation asks for them).
const Faults& current_faults();

/// Called by a body whose kind depends on an argument (a scatter with and without a sum, a copy to another dtype): the kind of this one
/// execution.
void executes_as(Kind kind);

/// Reports an exception of an operator to torch_npu; returns the error code.
int report_failure(const char* name, const std::exception& error);

template <class T>
struct IsOutput : std::is_base_of<Output, T> {};
template <class T>
void collect_outputs(std::vector<Tensor>& outputs, const T& argument) {
    if constexpr (IsOutput<T>::value)
        outputs.push_back(argument.tensor);
    else if constexpr (std::is_same_v<T, Outputs>)
        outputs.insert(outputs.end(), argument.tensors.begin(), argument.tensors.end());
}

/// The value of an argument that a fault makes the operator ignore.
template <class T>
void neutralise(T& argument) {
    if constexpr (!IsOutput<T>::value && !std::is_same_v<T, Outputs>) argument = T{};
}

std::vector<std::string> parameter_names(const char* parameters);

}  // namespace npu_emulator

struct aclOpExecutor {
    std::function<int(void* stream)> run;
};

namespace npu_emulator {

template <auto Body>
struct Operator;
template <class... Arguments, void (*Body)(Arguments...)>
struct Operator<Body> {
    static OperatorInfo info;

    static int plan(typename CType<Arguments>::type... raw, uint64_t* workspace_size, aclOpExecutor** executor) {
        *workspace_size = 0;
        try {
            auto arguments = std::make_shared<std::tuple<Arguments...>>(CType<Arguments>::copy(raw)...);
            *executor = new aclOpExecutor{[arguments](void* stream) { return execute(*arguments, stream); }};
            return 0;
        } catch (const std::exception& error) { return report_failure(info.name, error); }
    }

    static int execute(std::tuple<Arguments...>& arguments, void* stream) {
        try {
            CpuDispatch dispatch;
            std::vector<Tensor> outputs;
            std::apply([&](auto&... each) { (collect_outputs(outputs, each), ...); }, arguments);
            Execution execution(info, stream, std::move(outputs));
            if (execution.any_ignored()) {
                static const auto names = parameter_names(info.parameters);
                size_t i = 0;
                std::apply([&](auto&... each) { ((execution.ignores(names[i].c_str()) ? neutralise(each) : void(), i++), ...); },
                           arguments);
            }
            if (info.kind == Kind::Matmul && settings().noise.hf32 &&
                std::apply([](auto&... each) { return (allows_hf32(each) || ...); }, arguments)) {
                std::apply([&](auto&... each) { (round_input(execution, each), ...); }, arguments);
            }
            if (!execution.dropped()) std::apply(Body, arguments);
            execution.finish();
            return 0;
        } catch (const InjectedFailure& failure) {
            set_error(std::string(info.name) + ": " + failure.what());
            return failure.code;
        } catch (const std::exception& error) { return report_failure(info.name, error); }
    }

  private:
    /// The only int8_t of these operators is CANN's cubeMathType: 0 keeps the precision, 1 allows less, 3 asks for HF32.
    template <class T>
    static bool allows_hf32([[maybe_unused]] const T& argument) {
        if constexpr (std::is_same_v<T, int8_t>) return argument == 1 || argument == 3;
        return false;
    }

    template <class T>
    static void round_input(const Execution& execution, T& argument) {
        if constexpr (std::is_same_v<T, Tensor>) argument = execution.matmul_input(argument);
    }
};

/// Puts a planned operator on its stream.
int launch(aclOpExecutor* executor, void* stream);

}  // namespace npu_emulator

// The C name of the planning function is an alias (ifunc) of the template's instance, whose parameter types are the signature.
#define OPERATOR(NAME, KIND, PARAMETERS, ...)                                                                               \
    static void body_of_##NAME PARAMETERS { __VA_ARGS__; }                                                                  \
    template <>                                                                                                             \
    npu_emulator::OperatorInfo npu_emulator::Operator<&body_of_##NAME>::info{#NAME, #PARAMETERS, npu_emulator::Kind::KIND}; \
    extern "C" {                                                                                                            \
    static void* resolve_##NAME() { return (void*)&npu_emulator::Operator<&body_of_##NAME>::plan; }                         \
    __attribute__((visibility("default"), ifunc("resolve_" #NAME))) int NAME##GetWorkspaceSize();                           \
    __attribute__((visibility("default"))) int NAME(void*, uint64_t, aclOpExecutor* executor, void* stream) {               \
        return npu_emulator::launch(executor, stream);                                                                      \
    }                                                                                                                       \
    }

using namespace npu_emulator;
