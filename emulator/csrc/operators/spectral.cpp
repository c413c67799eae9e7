// Short-time Fourier transform. Other transforms are composed by torch_npu from matrix products.
#include "widening.h"

// The signal is not padded: torch does that before. A window shorter than n_fft is centred. torch_npu passes win_length as an int.
OPERATOR(aclStft, Accumulating,
         (Tensor self, Tensor window, Output out, int64_t n_fft, int64_t hop_length, int win_length, bool normalized, bool onesided,
          bool return_complex),
         {
             Tensor spectrum = at::stft(self, n_fft, hop_length, win_length, if_given(window), /*center=*/false, "constant", normalized,
                                        onesided, /*return_complex=*/true);
             out = return_complex ? spectrum : at::view_as_real(spectrum);
         })
