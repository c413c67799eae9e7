// Descriptors of tensors, buffers and attributes, by which the graph operators (libacl_op_compiler.so) get their arguments.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "emulator.h"

struct aclTensorDesc {
    int type;  // aclDataType
    std::vector<int64_t> size;
    int format;  // aclFormat
    std::string name;
    bool constant_on_host = false;  // its buffer is host memory (aclSetTensorPlaceMent)
};

struct aclDataBuffer {
    void* data;
    size_t bytes;
};

/// Attributes by name. A boolean, an integer, a float and a data type all stand among the numbers.
struct aclopAttr {
    std::map<std::string, double> numbers;
    std::map<std::string, std::string> texts;
    std::map<std::string, std::vector<int64_t>> lists;  // of integers or booleans
    std::map<std::string, std::vector<float>> float_lists;
};
