"""Devices, contexts and the overflow mode of the emulated runtime, called as torch_npu calls them."""


def test_a_device_that_is_not_there(emulated):
    """Every call that takes a device refuses one that is not there with CANN's code, and says how many there are."""
    emulated(
        """
        answer = c_int32()
        for name, *arguments in (
            ("aclrtSetDevice", 2),
            ("aclrtSetDevice", -1),
            ("aclrtResetDevice", 2),
            ("aclrtDeviceEnablePeerAccess", 2, 0),
            ("aclrtDeviceCanAccessPeer", byref(answer), 0, 2),
            ("aclrtGetPrimaryCtxState", 2, None, byref(answer)),
        ):
            assert getattr(acl, name)(*arguments) == 107001
            assert "2 are visible" in error()
        """,
        runtime=True,
    ).succeeded()


def test_each_thread_has_its_own_device(emulated):
    """A thread has no device until it sets one, and does not change that of another."""
    emulated(
        """
        import threading
        device = c_int32(7)
        assert acl.aclrtGetDevice(byref(device)) == 107002
        ok(acl.aclrtSetDevice(1))
        def other():
            mine = c_int32(7)
            codes.append(acl.aclrtGetDevice(byref(mine)))
            ok(acl.aclrtSetDevice(0))
        codes = []
        thread = threading.Thread(target=other)
        thread.start(), thread.join()
        ok(acl.aclrtGetDevice(byref(device)))
        assert (codes, device.value) == ([107002], 1)
        """,
        runtime=True,
    ).succeeded()


def test_a_context_brings_its_device(emulated):
    """Setting a context makes its device current; what is no context is refused; a device is active once it was set."""
    emulated(
        """
        ok(acl.aclrtSetDevice(1))
        context, device, active = c_void_p(), c_int32(), c_int32()
        ok(acl.aclrtGetCurrentContext(byref(context)))
        ok(acl.aclrtGetPrimaryCtxState(0, None, byref(active)))
        assert not active.value
        ok(acl.aclrtSetDevice(0))
        ok(acl.aclrtSetCurrentContext(context))
        ok(acl.aclrtGetDevice(byref(device)))
        assert device.value == 1
        ok(acl.aclrtGetPrimaryCtxState(0, None, byref(active)))
        assert active.value
        assert acl.aclrtSetCurrentContext(c_void_p(4096)) == 107002
        """,
        runtime=True,
    ).succeeded()


def test_peer_access(emulated):
    """A card reaches every other card's memory; the question about itself is answered with no."""
    emulated(
        """
        answer = c_int32(7)
        for card, peer, expected in ((0, 1, 1), (2, 0, 1), (1, 1, 0)):
            ok(acl.aclrtDeviceCanAccessPeer(byref(answer), card, peer))
            assert answer.value == expected
        ok(acl.aclrtSetDevice(0))
        ok(acl.aclrtDeviceEnablePeerAccess(1, 0))
        assert acl.aclrtDeviceEnablePeerAccess(0, 0) == 107001
        """,
        runtime=True,
        cards=3,
    ).succeeded()


def test_overflow_mode_and_flag(emulated):
    """The overflow mode is what was set last; another value is refused; the status flag is clear at first."""
    emulated(
        """
        mode, block = c_int32(7), malloc(64)
        for value in (0, 1):
            ok(acl.aclrtSetDeviceSatMode(value))
            ok(acl.aclrtGetDeviceSatMode(byref(mode)))
            assert mode.value == value
        assert acl.aclrtSetDeviceSatMode(2) == 107000
        acl.aclrtGetOverflowStatus.argtypes = [c_void_p, c_size_t, c_void_p]
        ok(acl.aclrtGetOverflowStatus(block, 64, None))
        assert download(block, 64) == bytes(64)
        """,
        runtime=True,
    ).succeeded()


def test_what_is_not_there_says_so(emulated):
    """A feature that the emulator does not have fails with CANN's code for that, and names itself."""
    emulated(
        """
        handle = c_void_p()
        for words, name, *arguments in (
            ("events shared between processes", "aclrtCreateEventExWithFlag", byref(handle), 0x40),
            ("dumps of operators", "aclmdlInitDump"),
            ("compiled kernels", "rtKernelLaunch", None),
            ("device memory shared between processes", "aclrtMemExportToShareableHandle", None),
        ):
            assert getattr(acl, name)(*arguments) == 207000
            assert f"{name}: the emulator has no {words}" in error()
        """,
        runtime=True,
    ).succeeded()
