"""Small helpers without a home of their own."""

from mmsagan.utils.setup import register_all_modules

__all__ = ['register_all_modules']
