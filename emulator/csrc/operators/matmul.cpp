// Matrix products.
//
// The cube unit multiplies half types into float32 sums that are rounded once, when they leave it: so do these. It is also
// what every machine computes alike, and with float16 faster than libtorch, which falls back to a plain loop on most CPUs.
// `cube_math_type` lets the device round float32 inputs (HF32); the emulator does so only where precision noise asks for it.
#include "widening.h"

OPERATOR(aclnnMatmul, Matmul, (Tensor self, Tensor mat2, Output out, int8_t cube_math_type), out = at::matmul(widened(self), widened(mat2)))
OPERATOR(aclnnMatmulWeightNz, Matmul, (Tensor self, Tensor mat2, Output out, int8_t cube_math_type),
         out = at::matmul(widened(self), widened(mat2)))
OPERATOR(aclnnMm, Matmul, (Tensor self, Tensor mat2, Output out, int8_t cube_math_type), out = at::mm(widened(self), widened(mat2)))
OPERATOR(aclnnBatchMatMul, Matmul, (Tensor self, Tensor mat2, Output out, int8_t cube_math_type),
         out = at::bmm(widened(self), widened(mat2)))
OPERATOR(aclnnBatchMatMulWeightNz, Matmul, (Tensor self, Tensor mat2, Output out, int8_t cube_math_type),
         out = at::bmm(widened(self), widened(mat2)))
OPERATOR(aclnnMv, Matmul, (Tensor self, Tensor vec, Output out, int8_t cube_math_type), out = at::mv(widened(self), widened(vec)))
OPERATOR(aclnnDot, Matmul, (Tensor self, Tensor tensor, Output out), out = at::dot(widened(self), widened(tensor)))

// ---- beta * self + alpha * product ------------------------------------------------------------------------------------------

OPERATOR(aclnnAddmm, Matmul, (Tensor self, Tensor mat1, Tensor mat2, Scalar beta, Scalar alpha, Output out, int8_t cube_math_type),
         out = at::addmm(widened(self), widened(mat1), widened(mat2), beta, alpha))
OPERATOR(aclnnAddmmWeightNz, Matmul, (Tensor self, Tensor mat1, Tensor mat2, Scalar beta, Scalar alpha, Output out, int8_t cube_math_type),
         out = at::addmm(widened(self), widened(mat1), widened(mat2), beta, alpha))
OPERATOR(aclnnInplaceAddmm, Matmul, (Output self, Tensor mat1, Tensor mat2, Scalar beta, Scalar alpha, int8_t cube_math_type),
         self = at::addmm(widened(self), widened(mat1), widened(mat2), beta, alpha))
// Here alpha comes before beta.
OPERATOR(aclnnAddmv, Matmul, (Tensor self, Tensor mat, Tensor vec, Scalar alpha, Scalar beta, Output out, int8_t cube_math_type),
         out = at::addmv(widened(self), widened(mat), widened(vec), beta, alpha))
OPERATOR(aclnnBaddbmm, Matmul, (Tensor self, Tensor batch1, Tensor batch2, Scalar beta, Scalar alpha, Output out, int8_t cube_math_type),
         out = at::baddbmm(widened(self), widened(batch1), widened(batch2), beta, alpha))
OPERATOR(aclnnAddbmm, Matmul, (Tensor self, Tensor batch1, Tensor batch2, Scalar beta, Scalar alpha, Output out, int8_t cube_math_type),
         out = at::addbmm(widened(self), widened(batch1), widened(batch2), beta, alpha))

// Outer products run on the vector unit, element by element.
OPERATOR(aclnnAddr, Approximate, (Tensor self, Tensor vec1, Tensor vec2, Scalar beta, Scalar alpha, Output out),
         out = at::addr(widened(self), widened(vec1), widened(vec2), beta, alpha))
OPERATOR(aclnnInplaceAddr, Approximate, (Output self, Tensor vec1, Tensor vec2, Scalar beta, Scalar alpha),
         self = at::addr(widened(self), widened(vec1), widened(vec2), beta, alpha))
