// Linear algebra: factorisations, inverses, triangular systems, determinants, cross products, distances between points.
#include "widening.h"

OPERATOR(aclnnInverse, Accumulating, (Tensor self, Output out), out = at::inverse(self))
OPERATOR(aclnnLinalgCholesky, Accumulating, (Tensor self, bool upper, Output out), out = at::linalg_cholesky(self, upper))
OPERATOR(aclnnLinalgQr, Accumulating, (Tensor self, int64_t mode, Output q, Output r), {
    const char* const modes[] = {"reduced", "complete", "r"};
    TORCH_CHECK(mode >= 0 && mode <= 2, "mode of the factorisation is 0 (reduced), 1 (complete) or 2 (r), not ", mode);
    auto [orthogonal, triangular] = at::linalg_qr(self, modes[mode]);
    q = orthogonal;
    r = triangular;
})
// V, not the transpose that torch returns.
OPERATOR(aclnnSvd, Accumulating, (Tensor input, bool full_matrices, bool compute_uv, Output sigma, Output u, Output v), {
    if (!compute_uv) {
        sigma = at::linalg_svdvals(input);
        return;
    }
    auto [left, values, right] = at::linalg_svd(input, full_matrices);
    sigma = values;
    u = left;
    v = right.mT();
})
OPERATOR(aclnnTriangularSolve, Accumulating, (Tensor self, Tensor a, bool upper, bool transpose, bool unitriangular, Output x, Output m), {
    Tensor coefficients = transpose ? a.mT() : a;
    x = at::linalg_solve_triangular(coefficients, self, upper != transpose, /*left=*/true, unitriangular);
    m = a;
})
OPERATOR(aclnnSlogdet, Accumulating, (Tensor self, Output sign, Output log), {
    auto [signs, logarithms] = at::linalg_slogdet(self);
    sign = signs;
    log = logarithms;
})
OPERATOR(aclnnLinalgCross, Approximate, (Tensor self, Tensor other, int64_t dim, Output out),
         out = at::linalg_cross(widened(self), widened(other), dim))

// ---- distances between points -----------------------------------------------------------------------------------------------

OPERATOR(aclnnCdist, Accumulating, (Tensor x1, Tensor x2, float p, int64_t compute_mode, Output out),
         out = at::_cdist_forward(widened(x1), widened(x2), p, compute_mode))
// Infinity is passed as -1.
OPERATOR(aclnnCdistBackward, Accumulating, (Tensor grad, Tensor x1, Tensor x2, Tensor cdist, float p, Output out),
         out = at::_cdist_backward(widened(grad), widened(x1), widened(x2), p < 0 ? INFINITY : p, widened(cdist)))
OPERATOR(aclnnPdist, Accumulating, (Tensor self, float p, Output out), out = at::_pdist_forward(widened(self).contiguous(), p))
