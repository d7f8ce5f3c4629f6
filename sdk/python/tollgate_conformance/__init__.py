"""The conformance kit of payment providers: what Tollgate relies on, as cases for pytest.

    pytest --pyargs tollgate_conformance.cases -p tollgate_conformance.plugin \\
        --provider grpc:127.0.0.1:50051 --rig my_rig:MyRig

A rig says how the provider under test is met: its method tokens, its currencies, its books. What a
provider's capabilities do not declare is skipped, and the skip says so; whatever it declares must
hold. See docs/howto/add-a-provider.md.
"""

from tollgate_conformance.rig import Charged, Refunded, Rig, Want

__all__ = ["Charged", "Refunded", "Rig", "Want"]
