"""Payment methods: a provider's token, bound to one provider account for life."""
