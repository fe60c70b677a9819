"""Withdraws a language: removes what its withdrawal has listed, and certifies that. Can be killed and done again."""

from dataclasses import dataclass

from index.sets import VectorSets
from model.languages import find_names
from store.data_root import EXPANSIONS
from store.files import pass_fault_point
from store.signing import sign
from store.withdrawals import Withdrawal

FORMAT = "pictoglot-withdrawal-1"


@dataclass(frozen=True)
class Withdrawer:
    """Finishes withdrawals of one data root."""

    sets: VectorSets

    def finish(self, withdrawal: Withdrawal) -> Withdrawal:
        """Remove vectors, captions, files of versions and datasets; return it with its certificate.

        Everything may be gone already. Raises StoreUnavailable, IndexUnavailable, RegistryUnavailable: call it again.
        """
        if withdrawal.certificate is not None:
            return withdrawal
        registry, gallery, root, plan = self.sets.registry, self.sets.gallery, self.sets.root, withdrawal.plan
        numbers = {each["number"] for each in plan.versions}
        pass_fault_point("withdraw.decided")
        self._drop_vectors(withdrawal.language, numbers)
        pass_fault_point("withdraw.vectors")
        while registry.withdrawals.is_taught_still(plan, withdrawal.language):
            for expansion in plan.expansions:
                gallery.forget_taught_captions(expansion)
            registry.withdrawals.forget_deleted_captions(plan, withdrawal.language)
        pass_fault_point("withdraw.captions")
        for version in registry.retention.list_removable():
            if version.number in numbers:
                root.remove(str(version.folder))
                pass_fault_point("withdraw.version")
                registry.retention.note_version_removed(version.number)
        for expansion in (each["expansion"] for each in plan.datasets):
            root.remove(f"{EXPANSIONS}/{expansion}")
            pass_fault_point("withdraw.dataset")
            registry.retention.note_dataset_removed(expansion)
        registry.forget_words()
        registry.forget_deleted()
        pass_fault_point("withdraw.removed")
        return registry.withdrawals.finish(withdrawal.number, self._certify(withdrawal))

    def _drop_vectors(self, language: str, gone: set[int]) -> None:
        for number in sorted(gone & self.sets.gallery.list_encoded_versions()):
            self.sets.gallery.forget_version(number, language)
        for identity in self.sets.list_newest():
            if identity.version in gone and identity.language == language:
                self.sets.drop(identity)

    def _certify(self, withdrawal: Withdrawal) -> dict[str, object]:
        plan, terms = withdrawal.plan, self.sets.registry.terms.get(withdrawal.terms)
        stay = {each["name"] for each in plan.remains}
        versions = [{**each, "files_removed": f"version {each['number']}" not in stay} for each in plan.versions]
        document = {
            "format": FORMAT,
            "language": withdrawal.language,
            "name": find_names(withdrawal.language).name,
            "owner": (terms.terms if terms else {}).get("owner", ""),
            "withdrawn_at": withdrawal.began_at.isoformat(),
            "release": withdrawal.release,
            "by": withdrawal.actor,
            "reason": withdrawal.reason,
            "removed": {
                "versions": versions,
                "datasets": plan.datasets,
                "captions": plan.captions,
                "answers": plan.answers,
            },
            "remains": plan.remains,
        }
        return sign(self.sets.root, document)
