"""What the kernel's peers agree a kernel must do: jupyter_kernel_test, with a sample for each of its tests."""

from __future__ import annotations

import jupyter_kernel_test
import pytest


@pytest.mark.usefixtures("kernelspec")
class KernelTests(jupyter_kernel_test.KernelTests):
    kernel_name = "minikernel"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [  # noqa: RUF012
        {"text": "zi", "matches": {"zip"}},
        {"text": "import sys; int.from_b", "matches": {"from_bytes"}},
    ]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n\n"]  # noqa: RUF012
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2", "for i in range(3):"]  # noqa: RUF012
    invalid_code_samples = ["import = 7q", "a b"]  # noqa: RUF012
    code_page_something = "zip?"
    code_generate_error = "raise ValueError"
    code_execute_result = [  # noqa: RUF012
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [  # noqa: RUF012
        {"code": "display('x')", "mime": "text/plain"},
        {"code": "class H:\n    def _repr_html_(self): return '<b>'\ndisplay(H())", "mime": "text/html"},
        {"code": "class S:\n    def _repr_svg_(self): return '<svg/>'\ndisplay(S())", "mime": "image/svg+xml"},
    ]
    code_history_pattern = "1?2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "import minikernel; minikernel.clear_output()"


@pytest.mark.usefixtures("kernelspec")
class IopubWelcomeTests(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = "minikernel"
    support_iopub_welcome = True

    @classmethod
    def setUpClass(cls) -> None:
        """The kernel is up: one that is just starting may say so first."""
        super().setUpClass()
        other = cls.km.client()
        other.start_channels()
        other.wait_for_ready(timeout=30)
        other.stop_channels()


@pytest.mark.parametrize("ours", [KernelTests, IopubWelcomeTests])
def test_none_of_them_is_skipped(ours: type) -> None:
    """jupyter_kernel_test skips what it is given no sample for."""
    attributes = {
        name for name in vars(ours.__bases__[0]) if not name.startswith(("_", "test_", "setUp", "tearDown"))
    }
    samples = {name for name in attributes if not callable(getattr(ours, name))}
    assert samples - vars(ours).keys() == set()
