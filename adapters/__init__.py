"""Adapters: one framework each."""
