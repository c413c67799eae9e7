// What an operator finds: the places of non-zero elements, masked elements, distinct elements. The shape of the result depends
// on the data, so torch_npu passes the largest buffer, waits, and asks for the shape.
#include "operator.h"

OPERATOR(aclnnNonzero, Movement, (Tensor self, DynamicOutput out), out = at::nonzero(self))
// One row for each dimension instead of one column.
OPERATOR(aclnnNonzeroV2, Movement, (Tensor self, DynamicOutput out), out = at::nonzero(self).t())
OPERATOR(aclnnMaskedSelect, Movement, (Tensor self, Tensor mask, DynamicOutput out), out = at::masked_select(self, mask.to(at::kBool)))

// ---- distinct elements ------------------------------------------------------------------------------------------------------

OPERATOR(aclnnUnique, Movement, (Tensor self, bool sorted, bool return_inverse, DynamicOutput value, Output inverse), {
    auto [values, inverses] = at::_unique(self, sorted, return_inverse);
    value = values;
    if (return_inverse) inverse = inverses;
})
OPERATOR(aclnnUnique2, Movement,
         (Tensor self, bool sorted, bool return_inverse, bool return_counts, DynamicOutput value, Output inverse, DynamicOutput counts), {
             auto [values, inverses, repetitions] = at::_unique2(self, sorted, return_inverse, return_counts);
             value = values;
             if (return_inverse) inverse = inverses;
             if (return_counts) counts = repetitions;
         })
OPERATOR(aclnnUniqueConsecutive, Movement,
         (Tensor self, bool return_inverse, bool return_counts, int64_t dim, DynamicOutput value, Output inverse, DynamicOutput counts), {
             constexpr int64_t kFlattened = 1000;  // CANN's code for no dimension
             auto of = dim == kFlattened ? std::nullopt : std::optional<int64_t>(dim);
             auto [values, inverses, repetitions] = at::unique_consecutive(self, return_inverse, return_counts, of);
             value = values;
             if (return_inverse) inverse = inverses;
             if (return_counts) counts = repetitions;
         })
// torch_npu asks for the shape of the counts whether it needs them or not.
OPERATOR(aclnnUniqueDim, Movement,
         (Tensor self, bool sorted, bool return_inverse, int64_t dim, DynamicOutput value, Output inverse, DynamicOutput counts), {
             auto [values, inverses, repetitions] = at::unique_dim(self, dim, sorted, /*return_inverse=*/true, /*return_counts=*/true);
             value = values;
             if (return_inverse) inverse = inverses;
             counts = repetitions;
         })

// ---- sparse tensors -----------------------------------------------------------------------------------------------------------

/// Adds up the values of equal indices: entry i of `self` goes to entry unique_indices[i] of the result.
OPERATOR(aclnnCoalesceSparse, Accumulating,
         (Tensor unique_len, Tensor unique_indices, Tensor indices, Tensor values, Output new_indices, Output new_values), {
             Tensor target = unique_indices.to(at::kLong);
             new_indices = at::zeros(new_indices->sizes(), indices.options()).index_copy_(0, target, indices);
             new_values = at::zeros(new_values->sizes(), values.options()).index_add_(0, target, values);
         })
