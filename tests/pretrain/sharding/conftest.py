from tests.integration.conftest import _small_demo, demo_cache

__all__ = ["_small_demo", "demo_cache"]
