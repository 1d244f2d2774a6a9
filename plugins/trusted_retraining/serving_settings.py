"""The settings of the cluster on which models are served."""

from dataclasses import dataclass

from trusted_retraining.cluster_settings import Read


@dataclass(frozen=True, kw_only=True)
class ServingSettings:
    """Where a cluster serves models, and how its model servers are reached from Airflow.

    Attributes
    ----------
    namespace : str
        Where models are served.
    service_account : str
        Service account of the model servers; it may read the published models. Empty: the
        namespace's default.
    storage_secret : str
        Secret whose keys become variables of model servers that fetch the model themselves
        (``deployment``); empty for workload identity.
    address : str
        Address of a Service as Airflow reaches it, with ``{service}`` and ``{namespace}``; empty
        takes what KServe says, or the in-cluster name.
    ingress : str
        Address of the ingress gateway, for an Airflow outside the cluster: requests go there with
        the model's own host name in the header ``Host``. Empty: they go to the model's address.
    prometheus_url : str
        Prometheus that is asked about the canary besides our own requests; empty: none.
    error_rate_query, latency_query : str
        PromQL for the share of failed requests (0 .. 1) and the 95th percentile of the latency
        (ms) of a canary, with ``$namespace``, ``$service``, ``$revision`` and ``$seconds``.
    """

    namespace: str
    service_account: str
    storage_secret: str
    address: str
    ingress: str
    prometheus_url: str
    error_rate_query: str
    latency_query: str

    @classmethod
    def read(cls, get: Read) -> "ServingSettings":
        """Read the options.

        Parameters
        ----------
        get : callable
            Returns an option, or the default that it is given.
        """
        return cls(
            namespace=get("serving_namespace", "trusted-retraining-serving"),
            service_account=get("serving_service_account", ""),
            storage_secret=get("serving_storage_secret", get("storage_secret", "")),
            address=get("serving_address", "").rstrip("/"),
            ingress=get("serving_ingress", "").rstrip("/"),
            prometheus_url=get("prometheus_url", "").rstrip("/"),
            error_rate_query=get("prometheus_error_rate_query", ""),
            latency_query=get("prometheus_latency_query", ""),
        )
