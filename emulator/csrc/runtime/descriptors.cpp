#include "descriptors.h"

#include "runtime.h"

using namespace npu_emulator;

// ---- tensors and buffers -----------------------------------------------------------------------------------------------------------

CANN_API aclTensorDesc* aclCreateTensorDesc(aclDataType type, int dimensions, const int64_t* size, aclFormat format) {
    return new aclTensorDesc{type, std::vector<int64_t>(size, size + dimensions), format, ""};
}
CANN_API void aclDestroyTensorDesc(const aclTensorDesc* tensor) { delete tensor; }
CANN_API void aclSetTensorDescName(aclTensorDesc* tensor, const char* name) { tensor->name = name ? name : ""; }
// The format in which a card stores a tensor is its own affair: the emulator stores every tensor in its logical layout.
CANN_API aclError aclSetTensorFormat(aclTensorDesc*, aclFormat) { return ACL_SUCCESS; }
CANN_API aclError aclSetTensorShape(aclTensorDesc*, int, const int64_t*) { return ACL_SUCCESS; }
CANN_API aclError aclSetTensorPlaceMent(aclTensorDesc* tensor, aclMemType type) {
    tensor->constant_on_host = type != ACL_MEMTYPE_DEVICE;
    return ACL_SUCCESS;
}
CANN_API aclDataType aclGetTensorDescType(const aclTensorDesc* tensor) { return static_cast<aclDataType>(tensor->type); }
CANN_API aclFormat aclGetTensorDescFormat(const aclTensorDesc* tensor) { return static_cast<aclFormat>(tensor->format); }
CANN_API size_t aclGetTensorDescNumDims(const aclTensorDesc* tensor) { return tensor->size.size(); }
CANN_API aclError aclGetTensorDescDimV2(const aclTensorDesc* tensor, size_t dimension, int64_t* size) {
    if (dimension >= tensor->size.size()) return fail(ACL_ERROR_INVALID_PARAM, "aclGetTensorDescDimV2: the tensor has fewer dimensions");
    *size = tensor->size[dimension];
    return ACL_SUCCESS;
}

CANN_API aclDataBuffer* aclCreateDataBuffer(void* data, size_t bytes) { return new aclDataBuffer{data, bytes}; }
CANN_API aclError aclDestroyDataBuffer(const aclDataBuffer* buffer) {
    delete buffer;
    return ACL_SUCCESS;
}
CANN_API void* aclGetDataBufferAddr(const aclDataBuffer* buffer) { return buffer->data; }
CANN_API size_t aclGetDataBufferSizeV2(const aclDataBuffer* buffer) { return buffer->bytes; }

// ---- attributes -------------------------------------------------------------------------------------------------------------------------

namespace {
template <class T>
aclError set_list(aclopAttr* attributes, const char* name, int count, const T* values) {
    attributes->lists[name].assign(values, values + count);
    return ACL_SUCCESS;
}
aclError set_number(aclopAttr* attributes, const char* name, double value) {
    attributes->numbers[name] = value;
    return ACL_SUCCESS;
}
}  // namespace

CANN_API aclopAttr* aclopCreateAttr() { return new aclopAttr; }
CANN_API void aclopDestroyAttr(const aclopAttr* attributes) { delete attributes; }
CANN_API aclError aclopSetAttrBool(aclopAttr* attributes, const char* name, uint8_t value) { return set_number(attributes, name, value); }
CANN_API aclError aclopSetAttrInt(aclopAttr* attributes, const char* name, int64_t value) {
    return set_number(attributes, name, static_cast<double>(value));
}
CANN_API aclError aclopSetAttrFloat(aclopAttr* attributes, const char* name, float value) { return set_number(attributes, name, value); }
CANN_API aclError aclopSetAttrDataType(aclopAttr* attributes, const char* name, aclDataType value) {
    return set_number(attributes, name, value);
}
CANN_API aclError aclopSetAttrString(aclopAttr* attributes, const char* name, const char* value) {
    attributes->texts[name] = value;
    return ACL_SUCCESS;
}
CANN_API aclError aclopSetAttrListInt(aclopAttr* attributes, const char* name, int count, const int64_t* values) {
    return set_list(attributes, name, count, values);
}
CANN_API aclError aclopSetAttrListBool(aclopAttr* attributes, const char* name, int count, const uint8_t* values) {
    return set_list(attributes, name, count, values);
}
CANN_API aclError aclopSetAttrListFloat(aclopAttr* attributes, const char* name, int count, const float* values) {
    attributes->float_lists[name].assign(values, values + count);
    return ACL_SUCCESS;
}
CANN_API aclError aclopSetAttrListListInt(aclopAttr*, const char*, int, const int*, const int64_t* const*) {
    return unsupported("aclopSetAttrListListInt", "lists of lists as attributes of graph operators");
}
