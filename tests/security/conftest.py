from tests.integration.conftest import demo_cache

__all__ = ["demo_cache"]
