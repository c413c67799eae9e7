// Indexing: elements and slices at the places that index tensors name, read, written, filled and summed.
#include "widening.h"

static Tensor places(const Tensor& index) { return index.to(at::kLong); }
static Tensor places(const Ints& index) { return at::tensor(index.ref(), at::kLong); }

// ---- one index for each dimension ---------------------------------------------------------------------------------------------

/// torch_npu marks a dimension without index by an empty tensor of the dtype of `self`. Real indices are int32 or int64, so for a
/// `self` of such dtype a marker and an index that is really empty look alike, to the device too: both count as markers.
static c10::List<std::optional<Tensor>> indices_of(const Tensor& self, const Tensors& indices) {
    c10::List<std::optional<Tensor>> list;
    for (auto& index : indices) {
        bool marker = !index.defined() || (index.numel() == 0 && index.scalar_type() == self.scalar_type());
        list.push_back(marker ? std::nullopt : std::optional<Tensor>(index));
    }
    return list;
}

// An index that is really empty gives an empty result.
OPERATOR(aclnnIndex, Movement, (Tensor self, Tensors indices, Output out), {
    if (out->numel()) out = at::index(self, indices_of(self, indices));
})
OPERATOR(aclnnIndexPutImpl, Movement, (Output self, Tensors indices, Tensor values, bool accumulate, bool unsafe), {
    bool all_empty = true;
    for (auto& index : indices) all_empty = all_empty && (!index.defined() || index.numel() == 0);
    if (all_empty) return;  // nothing is written
    auto list = indices_of(*self, indices);
    if (accumulate) {
        executes_as(Kind::Accumulating);
        Tensor sums = widened(self);
        self = at::index_put(sums, list, values.to(sums.scalar_type()), true);
    } else {
        (*self).index_put_(list, values.to(self->scalar_type()));
    }
})

// ---- an index along one dimension -----------------------------------------------------------------------------------------------

OPERATOR(aclnnIndexSelect, Movement, (Tensor self, int64_t dim, Tensor index, Output out), out = at::index_select(self, dim, index))
OPERATOR(aclnnGather, Movement, (Tensor self, int64_t dim, Tensor index, Output out), out = at::gather(self, dim, places(index)))
OPERATOR(aclnnGatherV3, Movement, (Tensor self, int64_t dim, Tensor index, int64_t batch_dims, int64_t mode, Output out), {
    TORCH_CHECK(batch_dims == 0, "batch_dims=", batch_dims, " is not supported, only 0, which is what torch_npu passes");
    out = at::index_select(self, dim, index.reshape({-1}));
})
OPERATOR(aclnnIndexAdd, Accumulating, (Tensor self, int64_t dim, Tensor index, Tensor source, Scalar alpha, Output out),
         out = at::index_add(widened(self), dim, index, widened(source), alpha))
// The gradient of a gather of whole rows: the index may have several dimensions.
OPERATOR(aclnnIndexAddV2, Accumulating, (Tensor self, int64_t dim, Tensor index, Tensor source, Scalar alpha, int64_t mode, Output out), {
    TORCH_CHECK(dim == 0, "dim=", dim, " is not supported, only 0, which is what torch_npu passes");
    std::vector<int64_t> rows = self.sizes().vec();
    rows[0] = index.numel();
    out = at::index_add(widened(self), 0, index.reshape({-1}), widened(source).reshape(rows), alpha);
})
OPERATOR(aclnnIndexCopy, Movement, (Tensor self, int64_t dim, Tensor index, Tensor source, Output out),
         out = at::index_copy(self, dim, places(index), source))
OPERATOR(aclnnInplaceIndexCopy, Movement, (Output self, int64_t dim, Tensor index, Tensor source),
         (*self).index_copy_(dim, places(index), source))
OPERATOR(aclnnIndexFill, Movement, (Tensor self, int64_t dim, Tensor index, Scalar value, Output out),
         out = at::index_fill(self, dim, places(index), value))
OPERATOR(aclnnInplaceIndexFill, Movement, (Output self, int64_t dim, Tensor index, Scalar value),
         (*self).index_fill_(dim, places(index), value))
OPERATOR(aclnnIndexFillTensor, Movement, (Tensor self, int64_t dim, Ints index, Scalar value, Output out),
         out = at::index_fill(self, dim, places(index), value))
OPERATOR(aclnnInplaceIndexFillTensor, Movement, (Output self, int64_t dim, Ints index, Scalar value),
         (*self).index_fill_(dim, places(index), value))

// ---- an index into the flattened tensor -------------------------------------------------------------------------------------------

OPERATOR(aclnnTake, Movement, (Tensor self, Tensor index, Output out), out = at::take(self, places(index)))
OPERATOR(aclnnInplacePut, Movement, (Output self, Tensor index, Tensor source, bool accumulate), {
    if (accumulate) executes_as(Kind::Accumulating);
    (*self).put_(places(index), source, accumulate);
})

// ---- one index of several numbers ---------------------------------------------------------------------------------------------------

OPERATOR(aclnnScatterNdUpdate, Movement, (Output self, Tensor indices, Tensor updates), {
    c10::List<std::optional<Tensor>> columns;
    for (auto& column : places(indices).unbind(-1)) columns.push_back(column);
    (*self).index_put_(columns, updates);
})
