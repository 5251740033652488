"""Terms as plain functions of renderings, codes and photographs; each names its source."""
